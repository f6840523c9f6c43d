output "cluster" {
  description = "The ECS cluster: name and ARN"
  value       = { name = aws_ecs_cluster.this.name, arn = aws_ecs_cluster.this.arn }
}

output "capacity_provider" {
  description = "Name of the capacity provider, once the cluster has it"
  value       = aws_ecs_capacity_provider.this.name
  depends_on  = [aws_ecs_cluster_capacity_providers.this]
}

output "autoscaling_group" {
  description = "Name of the group of instances"
  value       = aws_autoscaling_group.this.name
}

output "max_step" {
  description = "Most instances that one scaling step starts or stops"
  value       = local.max_step
}

output "stop_timeout_seconds" {
  description = "The agent kills a container this long after SIGTERM, where its task says nothing, s"
  value       = var.stop_timeout_seconds
}
