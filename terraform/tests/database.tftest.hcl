# Postgres, reachable from the tasks only.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name               = "poller-test"
  existing           = null
  vpc_id             = "vpc-1"
  subnet_ids         = ["subnet-1", "subnet-2"]
  clients            = { tasks = "sg-tasks" }
  engine_version     = "17"
  instance_class     = "db.t4g.medium"
  storage_gib        = 50
  max_storage_gib    = 500
  is_multi_az        = true
  backup_days        = 7
  log_retention_days = 7
  is_disposable      = false
}

run "a_new_database" {
  command = plan

  module {
    source = "./modules/database"
  }

  assert {
    condition     = aws_db_instance.this[0].engine == "postgres" && aws_db_instance.this[0].engine_version == "17" && aws_db_parameter_group.this[0].family == "postgres17"
    error_message = "PostgreSQL, and parameters of the same version."
  }

  assert {
    condition     = !aws_db_instance.this[0].publicly_accessible && aws_db_instance.this[0].storage_encrypted && aws_db_instance.this[0].storage_type == "gp3"
    error_message = "Private and encrypted."
  }

  assert {
    condition     = aws_db_instance.this[0].auto_minor_version_upgrade && aws_db_instance.this[0].performance_insights_enabled && aws_db_instance.this[0].copy_tags_to_snapshot
    error_message = "It is patched, watched, and its snapshots can be told apart."
  }

  assert {
    condition     = aws_db_instance.this[0].manage_master_user_password && aws_db_instance.this[0].password == null && aws_db_instance.this[0].password_wo == null
    error_message = "RDS keeps the password; it is in no plan."
  }

  assert {
    condition     = { for parameter in aws_db_parameter_group.this[0].parameter : parameter.name => parameter.value } == { "rds.force_ssl" = "1" } && aws_db_instance.this[0].parameter_group_name == aws_db_parameter_group.this[0].name
    error_message = "Nobody connects without TLS."
  }

  assert {
    condition = {
      for what, rule in aws_vpc_security_group_ingress_rule.clients :
      what => [rule.from_port, rule.to_port, rule.referenced_security_group_id]
    } == { tasks = [5432, 5432, "sg-tasks"] }
    error_message = "Only the tasks connect."
  }

  assert {
    condition     = aws_db_instance.this[0].deletion_protection && !aws_db_instance.this[0].skip_final_snapshot && aws_db_instance.this[0].backup_retention_period == 7 && aws_db_instance.this[0].multi_az
    error_message = "It is not lost by mistake."
  }

  assert {
    condition     = aws_db_instance.this[0].final_snapshot_identifier == "${aws_db_parameter_group.this[0].name}-last" && aws_db_parameter_group.this[0].name_prefix == "poller-test-"
    error_message = "The last snapshot has a name that no earlier database's has."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this[0].retention_in_days == 7 && aws_cloudwatch_log_group.this[0].name == "/aws/rds/instance/${aws_db_instance.this[0].identifier}/postgresql"
    error_message = "Its log is kept for 7 days."
  }

  assert {
    condition     = output.url == "postgresql://poller-test.abc.eu-central-1.rds.amazonaws.com:5432/poller?sslmode=require" && output.port == 5432
    error_message = "The URL has no login, and demands TLS."
  }

  assert {
    condition     = output.secret_arn == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1"
    error_message = "The secret is the one that RDS keeps."
  }
}

run "an_existing_database_is_taken_as_it_is" {
  command = plan

  variables {
    existing = {
      secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:theirs"
      url        = "postgresql://db.example.com:6432/videos?sslmode=require"
    }
  }

  module {
    source = "./modules/database"
  }

  assert {
    condition     = length(aws_db_instance.this) + length(aws_db_subnet_group.this) + length(aws_security_group.this) + length(aws_vpc_security_group_ingress_rule.clients) == 0
    error_message = "Nothing is made for it."
  }

  assert {
    condition     = output.url == var.existing.url && output.secret_arn == var.existing.secret_arn && output.port == 6432
    error_message = "Its URL, port and secret are used."
  }
}

run "a_disposable_database_goes_without_a_snapshot" {
  command = plan

  variables {
    is_disposable = true
  }

  module {
    source = "./modules/database"
  }

  assert {
    condition     = !aws_db_instance.this[0].deletion_protection && aws_db_instance.this[0].skip_final_snapshot
    error_message = "A disposable environment can be destroyed."
  }
}
