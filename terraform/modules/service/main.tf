# The service on ECS: one task for each GPU, as many as scaling wants.

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  region = data.aws_region.current.name

  environment = merge(var.settings, {
    AWS_DEFAULT_REGION           = local.region
    POLLER_ALLOWED_BUCKETS       = var.raw_bucket.name
    POLLER_DATABASE_SECRET_ARN   = var.database.secret_arn
    POLLER_DATABASE_URL          = var.database.url
    POLLER_DLQ_URL               = var.dlq.url
    POLLER_DRAIN_SECONDS         = tostring(var.drain_seconds)
    POLLER_HEARTBEAT_SECONDS     = tostring(var.heartbeat_seconds)
    POLLER_LEASE_SECONDS         = tostring(var.lease_seconds)
    POLLER_MAX_ATTEMPTS          = tostring(var.max_attempts)
    POLLER_MAX_CONCURRENT_VIDEOS = tostring(var.max_concurrent_videos)
    POLLER_MAX_VIDEO_BYTES       = "${var.max_video_gib}GiB"
    POLLER_MAX_VIDEO_SECONDS     = tostring(var.max_video_hours * 3600)
    POLLER_MODEL                 = var.model
    POLLER_QUEUE_URL             = var.queue.url
    POLLER_RAW_BUCKET            = var.raw_bucket.name
    POLLER_RESULTS_BUCKET        = var.results_bucket.name
    POLLER_VISIBILITY_SECONDS    = tostring(var.visibility_seconds)
    POLLER_WAIT_TIME_SECONDS     = tostring(var.wait_time_seconds)
  })

  # What both task definitions ask for.
  common = {
    image              = var.image
    task_role_arn      = aws_iam_role.task.arn
    execution_role_arn = aws_iam_role.execution.arn
    # As the image has them: its user, and a directory that this user owns, as `poller-bundles` in it.
    user        = "10001:10001"
    work_dir    = "/var/lib/poller"
    environment = local.environment
    log_group   = aws_cloudwatch_log_group.this.name
    region      = local.region
  }

  task = jsondecode(templatefile("${path.module}/../../../deploy/ecs/task-definition.json.tftpl", merge(local.common, {
    family               = var.name
    cpu_units            = var.cpu_units
    memory_mib           = var.memory_mib
    stop_timeout_seconds = var.stop_timeout_seconds
    http_port            = var.http_port
  })))

  trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })

  # Where the bundle's objects are; none for the built-in analysis.
  bundle = startswith(var.model, "s3://") ? ["arn:${data.aws_partition.current.partition}:s3:::${trimprefix(var.model, "s3://")}/*"] : []

  # What src/poller/sqs.py calls. On the dead-letter queue, `poller redrive` and `poller reconcile`
  # receive and delete, and they are run as this task.
  queue_actions = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"]
}

# --- what the code may do ---

resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "task" {
  name = "task"
  role = aws_iam_role.task.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "Queues"
        Effect   = "Allow"
        Action   = local.queue_actions
        Resource = [var.queue.arn, var.dlq.arn]
      },
      {
        # HeadObject needs GetObject too.
        Sid      = "ReadVideos"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["${var.raw_bucket.arn}/*"]
      },
      {
        # Without it S3 calls a missing object forbidden, and the dead letter would say so.
        Sid      = "TellMissingFromForbidden"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = [var.raw_bucket.arn, var.results_bucket.arn]
      },
      {
        Sid      = "WriteResults"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = ["${var.results_bucket.arn}/*"]
      },
      {
        Sid      = "DatabaseLogin"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = [var.database.secret_arn]
      },
      {
        Sid       = "ProtectItself"
        Effect    = "Allow"
        Action    = ["ecs:UpdateTaskProtection"]
        Resource  = ["${replace(var.cluster.arn, ":cluster/", ":task/")}/*"]
        Condition = { ArnEquals = { "ecs:cluster" = var.cluster.arn } }
      },
      ], [
      for objects in local.bundle : {
        # Each file is asked for by its name, which bundle.toml lists: nothing is listed.
        Sid      = "ReadBundle"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [objects]
      }
    ])
  })
}

# --- what ECS may do to start it ---

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = local.trust
}

resource "aws_iam_role_policy" "execution" {
  name = "execution"
  role = aws_iam_role.execution.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # The token is the account's; IAM knows no resource for it.
        Sid      = "Login"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = ["*"]
      },
      {
        Sid      = "Pull"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = [var.repository_arn]
      },
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.this.arn}:*"]
      },
    ]
  })
}

# --- the task ---

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158: CloudWatch's own key encrypts it
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_task_definition" "this" {
  family                   = local.task.family
  requires_compatibilities = local.task.requiresCompatibilities
  network_mode             = local.task.networkMode
  cpu                      = local.task.cpu
  memory                   = local.task.memory
  task_role_arn            = local.task.taskRoleArn
  execution_role_arn       = local.task.executionRoleArn
  container_definitions    = jsonencode(local.task.containerDefinitions)

  # A version that fails is rolled back to the one before, which must be there for that.
  skip_destroy = true

  runtime_platform {
    cpu_architecture        = local.task.runtimePlatform.cpuArchitecture
    operating_system_family = local.task.runtimePlatform.operatingSystemFamily
  }

  dynamic "volume" {
    for_each = local.task.volumes

    content {
      name = volume.value.name

      docker_volume_configuration {
        scope         = volume.value.dockerVolumeConfiguration.scope
        autoprovision = try(volume.value.dockerVolumeConfiguration.autoprovision, null)
        driver        = volume.value.dockerVolumeConfiguration.driver
      }
    }
  }
}

resource "aws_security_group" "task" {
  name        = "${var.name}-task"
  description = "The service: Prometheus comes in, AWS and the database are gone to"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-task" }
}

resource "aws_vpc_security_group_ingress_rule" "scrapers" {
  for_each                     = var.scraper_security_group_ids
  security_group_id            = aws_security_group.task.id
  description                  = "/metrics for ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = var.http_port
  to_port                      = var.http_port
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_egress_rule" "task" {
  for_each          = { https = 443, postgres = var.database.port }
  security_group_id = aws_security_group.task.id
  description       = each.key
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_service_discovery_private_dns_namespace" "this" {
  name        = "${var.name}.internal"
  description = "Where Prometheus finds the tasks of ${var.name}"
  vpc         = var.vpc_id
}

resource "aws_service_discovery_service" "this" {
  name = "poller"
  # Tasks that are gone may be registered for a while, and would keep it from being destroyed.
  force_destroy = true

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.this.id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = var.cluster.arn
  task_definition = aws_ecs_task_definition.this.arn
  desired_count   = 0
  # Protected tasks are no reason to keep what is destroyed.
  force_delete = true

  # Every GPU has a task: a new one can only start where an old one has gone, so none may be
  # demanded to stay and none may be added. The queue keeps what arrives in between.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  availability_zone_rebalancing      = "DISABLED"
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"

  capacity_provider_strategy {
    capacity_provider = var.capacity_provider
    weight            = 1
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.task.id]
    assign_public_ip = false
  }

  service_registries {
    registry_arn = aws_service_discovery_service.this.arn
  }

  lifecycle {
    ignore_changes = [desired_count]
  }

  # A task without its permissions would fail and be taken for a bad deployment.
  depends_on = [aws_iam_role_policy.task, aws_iam_role_policy.execution, aws_vpc_security_group_egress_rule.task]
}

# --- what fell between database, queue and dead-letter queue, on a schedule ---

locals {
  reconcile_count   = var.reconcile == null ? 0 : 1
  reconcile_name    = "${var.name}-reconcile"
  reconcile_command = concat(["reconcile"], try(var.reconcile.sweeps_bucket, false) ? ["--bucket", "s3://${var.raw_bucket.name}"] : [])

  reconcile = jsondecode(templatefile("${path.module}/../../../deploy/ecs/reconcile.json.tftpl", merge(local.common, {
    family  = local.reconcile_name
    command = local.reconcile_command
  })))
}

# On Fargate: on the service's own capacity it would start a GPU instance each time.
# It is there without a schedule, too: operators run their commands by it.
resource "aws_ecs_task_definition" "reconcile" {
  family                   = local.reconcile.family
  requires_compatibilities = local.reconcile.requiresCompatibilities
  network_mode             = local.reconcile.networkMode
  cpu                      = local.reconcile.cpu
  memory                   = local.reconcile.memory
  task_role_arn            = local.reconcile.taskRoleArn
  execution_role_arn       = local.reconcile.executionRoleArn
  container_definitions    = jsonencode(local.reconcile.containerDefinitions)

  # The schedule runs the one before until it is told of this one.
  skip_destroy = true

  runtime_platform {
    cpu_architecture        = local.reconcile.runtimePlatform.cpuArchitecture
    operating_system_family = local.reconcile.runtimePlatform.operatingSystemFamily
  }
}

resource "aws_iam_role" "scheduler" {
  count = local.reconcile_count
  name  = "${var.name}-scheduler"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "scheduler" {
  count = local.reconcile_count
  name  = "scheduler"
  role  = aws_iam_role.scheduler[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Run"
        Effect    = "Allow"
        Action    = ["ecs:RunTask"]
        Resource  = [aws_ecs_task_definition.reconcile.arn]
        Condition = { ArnEquals = { "ecs:cluster" = var.cluster.arn } }
      },
      {
        Sid       = "Tag"
        Effect    = "Allow"
        Action    = ["ecs:TagResource"]
        Resource  = ["${replace(var.cluster.arn, ":cluster/", ":task/")}/*"]
        Condition = { StringEquals = { "ecs:CreateAction" = "RunTask" } }
      },
      {
        Sid       = "GiveItItsRoles"
        Effect    = "Allow"
        Action    = ["iam:PassRole"]
        Resource  = [aws_iam_role.task.arn, aws_iam_role.execution.arn]
        Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
      },
    ]
  })
}

# The scheduler counts by group what it could not start, and an account's default group is everybody's.
resource "aws_scheduler_schedule_group" "reconcile" {
  count = local.reconcile_count
  name  = local.reconcile_name
}

resource "aws_scheduler_schedule" "reconcile" {
  #checkov:skip=CKV_AWS_297: EventBridge's own key encrypts it, and there is no secret in it
  count                        = local.reconcile_count
  name                         = local.reconcile_name
  group_name                   = aws_scheduler_schedule_group.reconcile[0].name
  description                  = "poller reconcile"
  schedule_expression          = var.reconcile.schedule
  schedule_expression_timezone = "UTC"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = var.cluster.arn
    role_arn = aws_iam_role.scheduler[0].arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.reconcile.arn
      launch_type         = "FARGATE"
      task_count          = 1
      propagate_tags      = "TASK_DEFINITION"

      network_configuration {
        subnets          = var.subnet_ids
        security_groups  = [aws_security_group.task.id]
        assign_public_ip = false
      }
    }

    # The next one comes soon enough.
    retry_policy {
      maximum_event_age_in_seconds = 1800
      maximum_retry_attempts       = 3
    }
  }

  depends_on = [aws_iam_role_policy.scheduler, aws_iam_role_policy.task, aws_iam_role_policy.execution]
}
