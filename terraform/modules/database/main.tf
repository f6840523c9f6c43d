# Postgres with pgvector, reachable from the tasks only; or one that is there already.

locals {
  is_new   = var.existing == null
  count    = local.is_new ? 1 : 0
  database = "poller"
  port     = 5432
}

resource "aws_db_subnet_group" "this" {
  count       = local.count
  name        = var.name
  description = "Private subnets of the database"
  subnet_ids  = var.subnet_ids
}

resource "aws_security_group" "this" {
  count       = local.count
  name        = "${var.name}-database"
  description = "PostgreSQL from the tasks"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-database" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each                     = local.is_new ? var.clients : {}
  security_group_id            = aws_security_group.this[0].id
  description                  = "PostgreSQL from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = each.value
}

resource "aws_db_parameter_group" "this" {
  count       = local.count
  name_prefix = "${var.name}-"
  description = "TLS only"
  family      = "postgres${split(".", var.engine_version)[0]}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158: CloudWatch's own key encrypts it
  count             = local.count
  name              = "/aws/rds/instance/${var.name}/postgresql"
  retention_in_days = var.log_retention_days
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_293: on unless the environment is disposable
  #checkov:skip=CKV_AWS_118: Performance Insights tell more, and need no role
  #checkov:skip=CKV_AWS_354: RDS's own key encrypts them
  #checkov:skip=CKV_AWS_161: the password is rotated, and read at run time; IAM's tokens would be asked for at every connection
  count          = local.count
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.engine_version
  instance_class = var.instance_class
  db_name        = local.database
  port           = local.port

  # RDS makes the password, keeps it in a secret and changes it every week: it is in no plan and in
  # no state, and the service reads it at run time.
  username                    = "poller"
  manage_master_user_password = true

  storage_type          = "gp3"
  storage_encrypted     = true
  allocated_storage     = var.storage_gib
  max_allocated_storage = var.max_storage_gib

  db_subnet_group_name   = aws_db_subnet_group.this[0].name
  vpc_security_group_ids = [aws_security_group.this[0].id]
  parameter_group_name   = aws_db_parameter_group.this[0].name
  publicly_accessible    = false
  multi_az               = var.is_multi_az

  auto_minor_version_upgrade      = true
  backup_retention_period         = var.backup_days
  copy_tags_to_snapshot           = true
  enabled_cloudwatch_logs_exports = ["postgresql"]
  performance_insights_enabled    = true

  deletion_protection      = !var.is_disposable
  delete_automated_backups = var.is_disposable
  skip_final_snapshot      = var.is_disposable
  # The snapshot outlives the database, and its name must be free when the next one is destroyed: the
  # parameter group's is new each time that it is made.
  final_snapshot_identifier = var.is_disposable ? null : "${aws_db_parameter_group.this[0].name}-last"

  depends_on = [aws_cloudwatch_log_group.this]
}
