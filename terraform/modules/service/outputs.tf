output "service" {
  description = "Name of the ECS service"
  value       = aws_ecs_service.this.name
}

output "task_definition" {
  description = "ARN of the task definition, with its revision"
  value       = aws_ecs_task_definition.this.arn
}

output "task_role_arn" {
  description = "Role of the code"
  value       = aws_iam_role.task.arn
}

output "security_group_id" {
  description = "Security group of the tasks: let it into a database of your own"
  value       = aws_security_group.task.id
}

output "log_group" {
  description = "Name of the service's log group"
  value       = aws_cloudwatch_log_group.this.name
}

output "metrics_address" {
  description = "DNS name that has an A record for each task, and the port: for Prometheus"
  value       = "${aws_service_discovery_service.this.name}.${aws_service_discovery_private_dns_namespace.this.name}:${var.http_port}"
}

output "environment" {
  description = "What the service's environment says, by variable: for commands that are run by hand, too"
  value       = { for name, value in local.environment : name => value if startswith(name, "POLLER_") }
}

output "run_command" {
  description = "Shell command that runs a command of poller beside the service, on Fargate: put its words in place of \"status\". What it prints is in the log group, in a stream of its own"
  value = join(" ", [
    "aws ecs run-task --region ${local.region} --cluster ${var.cluster.name} --launch-type FARGATE --group operator",
    "--task-definition ${local.reconcile_name}",
    "--network-configuration 'awsvpcConfiguration={subnets=[${join(",", var.subnet_ids)}],securityGroups=[${aws_security_group.task.id}],assignPublicIp=DISABLED}'",
    "--overrides '${jsonencode({ containerOverrides = [{ name = "reconcile", command = ["status"] }] })}'",
  ])
}

output "stop_timeout_seconds" {
  description = "The service is killed this long after SIGTERM, s"
  value       = one([for container in local.task.containerDefinitions : container.stopTimeout if container.name == "poller"])
}

output "reconcile_task_definition" {
  description = "ARN of the task definition that the schedule and operators run, with its revision"
  value       = aws_ecs_task_definition.reconcile.arn
}

output "reconcile" {
  description = "Name of what runs `poller reconcile`, the same for the task definition's family and the group of its schedule; null: nothing does"
  value       = var.reconcile == null ? null : local.reconcile_name
}
