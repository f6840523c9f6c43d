output "url" {
  description = "The repository, as `docker push` and the task definition name it"
  value       = aws_ecr_repository.this.repository_url
}

output "arn" {
  description = "The repository's ARN"
  value       = aws_ecr_repository.this.arn
}
