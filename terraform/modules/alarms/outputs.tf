output "topic_arn" {
  description = "Topic that every alarm goes to"
  value       = aws_sns_topic.this.arn
}

output "dashboard" {
  description = "Name of the CloudWatch dashboard"
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
