output "repository_url" {
  description = "Where the image is pushed to"
  value       = module.image.url
}

output "raw_bucket" {
  description = "Bucket that videos are uploaded to: POLLER_RAW_BUCKET"
  value       = module.intake.raw_bucket.name
}

output "upload_prefix" {
  description = "Keys of uploads begin with this; others are stored and not announced"
  value       = var.prefix
}

output "results_bucket" {
  description = "Bucket for result files: POLLER_RESULTS_BUCKET"
  value       = module.intake.results_bucket.name
}

output "queue_url" {
  description = "Queue that announces uploads: POLLER_QUEUE_URL"
  value       = module.intake.queue.url
}

output "dlq_url" {
  description = "Dead-letter queue: POLLER_DLQ_URL"
  value       = module.intake.dlq.url
}

output "database_url" {
  description = "Where the database is, without a login: POLLER_DATABASE_URL"
  value       = module.database.url
}

output "database_secret_arn" {
  description = "Secret with the database's login: POLLER_DATABASE_SECRET_ARN"
  value       = module.database.secret_arn
}

output "reader_policy" {
  description = "IAM policy, as JSON, for the application that shows results"
  value       = module.intake.reader_policy
}

output "uploader_policy" {
  description = "IAM policy, as JSON, for the application that uploads"
  value       = module.intake.uploader_policy
}

output "cluster_name" {
  description = "ECS cluster"
  value       = module.cluster.cluster.name
}

output "autoscaling_group" {
  description = "Group of the GPU instances"
  value       = module.cluster.autoscaling_group
}

output "service_name" {
  description = "ECS service"
  value       = module.service.service
}

output "task_definition" {
  description = "Task definition, with its revision"
  value       = module.service.task_definition
}

output "task_role_arn" {
  description = "Role of the code: let it use your KMS key where the bundle or the secret has one"
  value       = module.service.task_role_arn
}

output "task_security_group_id" {
  description = "Security group of the tasks: let it into an existing database"
  value       = module.service.security_group_id
}

output "log_group" {
  description = "Log group of the tasks, one JSON object a line"
  value       = module.service.log_group
}

output "metrics_address" {
  description = "DNS name with an A record for each task, and the port: for Prometheus"
  value       = module.service.metrics_address
}

output "alarm_topic_arn" {
  description = "SNS topic that every alarm goes to"
  value       = module.alarms.topic_arn
}

output "dashboard" {
  description = "CloudWatch dashboard"
  value       = module.alarms.dashboard
}

output "scaling_policy" {
  description = "What scaling does, as data, for a simulation"
  value       = module.scaling.policy
}

output "environment" {
  description = "What the service's environment says, by variable: for commands that are run by hand, too"
  value       = module.service.environment
}

output "run_command" {
  description = "Shell command that runs a command of poller beside the service: put its words in place of \"status\""
  value       = module.service.run_command
}

output "timing" {
  description = "The numbers that must agree, as the parts have them, s"
  value = {
    visibility   = module.intake.queue.visibility_seconds
    lease        = tonumber(module.service.environment.POLLER_LEASE_SECONDS)
    heartbeat    = tonumber(module.service.environment.POLLER_HEARTBEAT_SECONDS)
    wait         = tonumber(module.service.environment.POLLER_WAIT_TIME_SECONDS)
    drain        = tonumber(module.service.environment.POLLER_DRAIN_SECONDS)
    task_stop    = module.service.stop_timeout_seconds
    cluster_stop = module.cluster.stop_timeout_seconds
  }
}

output "reconcile_task_definition" {
  description = "Task definition of `poller reconcile`, which the schedule and `run_command` run"
  value       = module.service.reconcile_task_definition
}
