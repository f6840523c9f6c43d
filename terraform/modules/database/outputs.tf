output "url" {
  description = "Where the database is, without a login: what POLLER_DATABASE_URL says"
  value       = local.is_new ? "postgresql://${aws_db_instance.this[0].address}:${local.port}/${local.database}?sslmode=require" : var.existing.url
}

output "secret_arn" {
  description = "Secret with the login: what POLLER_DATABASE_SECRET_ARN says"
  value       = local.is_new ? aws_db_instance.this[0].master_user_secret[0].secret_arn : var.existing.secret_arn
}

output "port" {
  description = "The database's port"
  value       = local.is_new ? local.port : try(tonumber(regex("^[^/]+//[^/]+:([0-9]+)/", var.existing.url)[0]), local.port)
}

output "clients" {
  description = "Security groups that may connect to the new database, by what they are"
  value       = { for what, rule in aws_vpc_security_group_ingress_rule.clients : what => rule.referenced_security_group_id }
}
