# The service on ECS.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

override_resource {
  target          = aws_iam_role.task
  override_during = plan
  values          = { arn = "arn:aws:iam::123456789012:role/task", id = "task" }
}

override_resource {
  target          = aws_iam_role.execution
  override_during = plan
  values          = { arn = "arn:aws:iam::123456789012:role/execution", id = "execution" }
}

override_resource {
  target          = aws_ecs_task_definition.reconcile
  override_during = plan
  values          = { arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/poller-test-reconcile:1" }
}

override_resource {
  target          = aws_iam_role.scheduler
  override_during = plan
  values          = { arn = "arn:aws:iam::123456789012:role/scheduler", id = "scheduler" }
}

variables {
  name              = "poller-test"
  image             = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/poller-test@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  repository_arn    = "arn:aws:ecr:eu-central-1:123456789012:repository/poller-test"
  cluster           = { name = "poller-test", arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/poller-test" }
  capacity_provider = "poller-test"
  vpc_id            = "vpc-1"
  subnet_ids        = ["subnet-1", "subnet-2"]
  raw_bucket        = { name = "raw", arn = "arn:aws:s3:::raw" }
  results_bucket    = { name = "results", arn = "arn:aws:s3:::results" }
  queue             = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads", arn = "arn:aws:sqs:eu-central-1:123456789012:uploads" }
  dlq               = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/dlq", arn = "arn:aws:sqs:eu-central-1:123456789012:dlq" }
  database = {
    url        = "postgresql://db.example.com:5432/poller?sslmode=require"
    port       = 5432
    secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1"
  }
  cpu_units                  = 4096
  memory_mib                 = 14336
  http_port                  = 9102
  lease_seconds              = 90
  heartbeat_seconds          = 30
  visibility_seconds         = 900
  wait_time_seconds          = 20
  drain_seconds              = 90
  stop_timeout_seconds       = 120
  max_attempts               = 3
  max_concurrent_videos      = 4
  max_video_gib              = 20
  max_video_hours            = 4
  model                      = "builtin"
  settings                   = { POLLER_SAMPLE_FPS = "2" }
  scraper_security_group_ids = { prometheus = "sg-prometheus" }
  log_retention_days         = 7
  reconcile                  = { schedule = "rate(1 hours)" }
}

run "task" {
  command = plan

  module {
    source = "./modules/service"
  }

  assert {
    condition     = [for container in jsondecode(aws_ecs_task_definition.this.container_definitions) : container.name] == ["migrate", "poller"]
    error_message = "The database is brought up to date, then the service starts."
  }

  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.this.container_definitions)[1].dependsOn[0] == { containerName = "migrate", condition = "SUCCESS" }
      && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].command == ["migrate"]
      && jsondecode(aws_ecs_task_definition.this.container_definitions)[1].command == ["run"]
      && !jsondecode(aws_ecs_task_definition.this.container_definitions)[0].essential
      && jsondecode(aws_ecs_task_definition.this.container_definitions)[1].essential
    )
    error_message = "The service waits for the migrations."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[1].resourceRequirements[0] == { type = "GPU", value = "1" }
    error_message = "One GPU."
  }

  assert {
    condition     = aws_ecs_task_definition.this.cpu == "4096" && aws_ecs_task_definition.this.memory == "14336" && jsondecode(aws_ecs_task_definition.this.container_definitions)[1].memoryReservation <= 14336 - jsondecode(aws_ecs_task_definition.this.container_definitions)[0].memoryReservation
    error_message = "CPU and memory are the task's, and both containers fit in."
  }

  assert {
    condition     = aws_ecs_task_definition.this.requires_compatibilities == toset(["EC2"]) && aws_ecs_task_definition.this.network_mode == "awsvpc"
    error_message = "On EC2, with an address of its own."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[1].stopTimeout == 120
    error_message = "120 s from SIGTERM to the kill."
  }

  assert {
    condition = alltrue([
      for container in jsondecode(aws_ecs_task_definition.this.container_definitions) :
      container.readonlyRootFilesystem && !container.privileged && container.user == "10001:10001"
      && container.linuxParameters.capabilities.drop == ["ALL"] && container.dockerSecurityOptions == ["no-new-privileges"]
    ])
    error_message = "Both containers are confined: read-only root, no root user, no capabilities."
  }

  assert {
    condition = alltrue([
      for container in jsondecode(aws_ecs_task_definition.this.container_definitions) :
      container.linuxParameters.initProcessEnabled && join(" ", concat([container.linuxParameters.tmpfs[0].containerPath], container.linuxParameters.tmpfs[0].mountOptions)) == "/tmp rw nosuid nodev"
    ]) && jsondecode(aws_ecs_task_definition.this.container_definitions)[1].linuxParameters.tmpfs[0].size == 256
    error_message = "An init process reaps what a decoder leaves, and /tmp is in memory."
  }

  assert {
    condition = alltrue([
      for container in jsondecode(aws_ecs_task_definition.this.container_definitions) :
      container.logConfiguration.logDriver == "awslogs" && container.logConfiguration.options.mode == "non-blocking"
      && container.logConfiguration.options["awslogs-group"] == aws_cloudwatch_log_group.this.name
    ]) && jsondecode(aws_ecs_task_definition.this.container_definitions)[1].logConfiguration.options["max-buffer-size"] == "25m"
    error_message = "Logs never hold up the work."
  }

  assert {
    condition     = strcontains(jsondecode(aws_ecs_task_definition.this.container_definitions)[1].healthCheck.command[3], "http://127.0.0.1:9102/healthz") && jsondecode(aws_ecs_task_definition.this.container_definitions)[1].healthCheck.command[0] == "CMD"
    error_message = "ECS asks /healthz."
  }

  assert {
    condition     = { for what, value in jsondecode(aws_ecs_task_definition.this.container_definitions)[1].healthCheck : what => value if what != "command" } == { interval = 30, timeout = 5, retries = 3, startPeriod = 300 }
    error_message = "Three answers may fail, and none counts in the first five minutes."
  }

  assert {
    condition = alltrue([
      for container in jsondecode(aws_ecs_task_definition.this.container_definitions) : container.image == var.image
    ])
    error_message = "Both containers are the same image, by digest."
  }

  assert {
    condition = [
      for mount in jsondecode(aws_ecs_task_definition.this.container_definitions)[1].mountPoints : [mount.sourceVolume, mount.containerPath, mount.readOnly]
    ] == [["work", "/var/lib/poller", false], ["poller-test-bundles", "/var/lib/poller/poller-bundles", false]]
    error_message = "Videos are fetched to one volume, and bundles to another."
  }

  assert {
    condition = {
      for volume in aws_ecs_task_definition.this.volume : volume.name => [for docker in volume.docker_volume_configuration : [docker.scope, docker.autoprovision == true, docker.driver]]
      } == {
      work                = [["task", false, "local"]]
      poller-test-bundles = [["shared", true, "local"]]
    }
    error_message = "Videos go with the task; the next task on the instance finds the bundle, on a volume that Docker makes."
  }

  assert {
    condition     = strcontains(aws_ecs_task_definition.this.container_definitions, "password") == false
    error_message = "No password in the plan."
  }
}

run "environment" {
  command = plan

  module {
    source = "./modules/service"
  }

  assert {
    condition = { for variable in jsondecode(aws_ecs_task_definition.this.container_definitions)[1].environment : variable.name => variable.value } == {
      AWS_DEFAULT_REGION           = "eu-central-1"
      NVIDIA_DRIVER_CAPABILITIES   = "compute,utility,video"
      POLLER_ALLOWED_BUCKETS       = "raw"
      POLLER_DATABASE_SECRET_ARN   = var.database.secret_arn
      POLLER_DATABASE_URL          = var.database.url
      POLLER_DEVICE                = "cuda"
      POLLER_DLQ_URL               = var.dlq.url
      POLLER_DRAIN_SECONDS         = "90"
      POLLER_HEARTBEAT_SECONDS     = "30"
      POLLER_HTTP_PORT             = "9102"
      POLLER_LEASE_SECONDS         = "90"
      POLLER_MAX_ATTEMPTS          = "3"
      POLLER_MAX_CONCURRENT_VIDEOS = "4"
      POLLER_MAX_VIDEO_BYTES       = "20GiB"
      POLLER_MAX_VIDEO_SECONDS     = "14400"
      POLLER_MODEL                 = "builtin"
      POLLER_QUEUE_URL             = var.queue.url
      POLLER_RAW_BUCKET            = "raw"
      POLLER_RESULTS_BUCKET        = "results"
      POLLER_SAMPLE_FPS            = "2"
      POLLER_VISIBILITY_SECONDS    = "900"
      POLLER_WAIT_TIME_SECONDS     = "20"
      POLLER_WORK_DIR              = "/var/lib/poller"
    }
    error_message = "The service is told what was made, and the numbers of the design."
  }
}

run "service" {
  command = plan

  module {
    source = "./modules/service"
  }

  assert {
    condition     = aws_ecs_service.this.deployment_minimum_healthy_percent == 0 && aws_ecs_service.this.deployment_maximum_percent == 100
    error_message = "A deployment needs no second GPU."
  }

  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback
    error_message = "A deployment that fails is rolled back."
  }

  assert {
    condition     = aws_ecs_task_definition.this.skip_destroy && aws_ecs_task_definition.reconcile.skip_destroy
    error_message = "The version before is still there to go back to."
  }

  assert {
    condition     = aws_ecs_service.this.force_delete && aws_service_discovery_service.this.force_destroy
    error_message = "Tasks at work do not keep an environment from being destroyed."
  }

  assert {
    condition     = [for strategy in aws_ecs_service.this.capacity_provider_strategy : strategy.capacity_provider] == ["poller-test"]
    error_message = "Tasks run on the capacity provider."
  }

  assert {
    condition     = aws_ecs_service.this.desired_count == 0 && aws_ecs_service.this.enable_ecs_managed_tags && aws_ecs_service.this.propagate_tags == "SERVICE"
    error_message = "The first task comes with the first message; tasks have the service's tags."
  }

  assert {
    condition     = aws_ecs_service.this.launch_type == ""
    error_message = "With a launch type, ECS would not start instances."
  }

  assert {
    condition     = aws_ecs_service.this.availability_zone_rebalancing == "DISABLED" && !aws_ecs_service.this.network_configuration[0].assign_public_ip
    error_message = "Rebalancing needs a surplus task; a public address is not needed."
  }

  assert {
    condition     = aws_ecs_service.this.service_registries[0].registry_arn == aws_service_discovery_service.this.arn && aws_service_discovery_service.this.dns_config[0].dns_records[0].type == "A" && aws_service_discovery_service.this.dns_config[0].dns_records[0].ttl == 10 && aws_service_discovery_service.this.dns_config[0].routing_policy == "MULTIVALUE" && output.metrics_address == "poller.poller-test.internal:9102"
    error_message = "Prometheus finds each task by DNS."
  }

  assert {
    condition     = { for what, rule in aws_vpc_security_group_ingress_rule.scrapers : what => [rule.from_port, rule.to_port, rule.referenced_security_group_id] } == { prometheus = [9102, 9102, "sg-prometheus"] }
    error_message = "Only Prometheus comes in."
  }

  assert {
    condition     = { for what, rule in aws_vpc_security_group_egress_rule.task : what => [rule.from_port, rule.to_port, rule.cidr_ipv4] } == { https = [443, 443, "0.0.0.0/0"], postgres = [5432, 5432, "0.0.0.0/0"] }
    error_message = "AWS and the database are gone to."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.retention_in_days == 7
    error_message = "Logs are kept for 7 days."
  }
}

run "permissions" {
  command = plan

  module {
    source = "./modules/service"
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.task.policy).Statement : statement.Sid => [statement.Action, statement.Resource]
      } == {
      Queues = [
        ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"],
        ["arn:aws:sqs:eu-central-1:123456789012:uploads", "arn:aws:sqs:eu-central-1:123456789012:dlq"],
      ]
      ReadVideos               = [["s3:GetObject"], ["arn:aws:s3:::raw/*"]]
      TellMissingFromForbidden = [["s3:ListBucket"], ["arn:aws:s3:::raw", "arn:aws:s3:::results"]]
      WriteResults             = [["s3:GetObject", "s3:PutObject"], ["arn:aws:s3:::results/*"]]
      DatabaseLogin            = [["secretsmanager:GetSecretValue"], ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1"]]
      ProtectItself            = [["ecs:UpdateTaskProtection"], ["arn:aws:ecs:eu-central-1:123456789012:task/poller-test/*"]]
    }
    error_message = "The task may do exactly what the code does."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.task.policy).Statement :
      statement.Effect == "Allow" && alltrue([for action in statement.Action : !strcontains(action, "*")]) && !contains(statement.Resource, "*")
    ])
    error_message = "No action has a star, and no statement is about everything."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.task.policy).Statement : statement.Condition.ArnEquals["ecs:cluster"] if statement.Sid == "ProtectItself"] == [var.cluster.arn]
    error_message = "Protection is for tasks of this cluster."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.execution.policy).Statement : statement.Sid => [statement.Action, statement.Resource]
      } == {
      Login = [["ecr:GetAuthorizationToken"], ["*"]]
      Pull  = [["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], [var.repository_arn]]
      Log   = [["logs:CreateLogStream", "logs:PutLogEvents"], ["arn:aws:logs:eu-central-1:123456789012:log-group:/ecs/poller-test:*"]]
    }
    error_message = "ECS may pull the image and write the log."
  }

  assert {
    condition = alltrue([
      for role in [aws_iam_role.task, aws_iam_role.execution] :
      jsondecode(role.assume_role_policy).Statement[0].Principal.Service == "ecs-tasks.amazonaws.com"
      && jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    ])
    error_message = "Only tasks of this account take the roles."
  }

  assert {
    condition     = aws_ecs_task_definition.this.task_role_arn == aws_iam_role.task.arn && aws_ecs_task_definition.this.execution_role_arn == aws_iam_role.execution.arn
    error_message = "The code has the task's role, and ECS the other."
  }
}

run "bundle" {
  command = plan

  variables {
    model = "s3://models.example/people/v1"
  }

  module {
    source = "./modules/service"
  }

  assert {
    condition = alltrue([
      for container in concat(jsondecode(aws_ecs_task_definition.this.container_definitions), jsondecode(aws_ecs_task_definition.reconcile.container_definitions)) :
      [for variable in container.environment : variable.value if variable.name == "POLLER_MODEL"] == [var.model]
    ])
    error_message = "Everything that runs is told of the bundle: its name is the pipeline's."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.task.policy).Statement : statement
      if anytrue([for resource in statement.Resource : strcontains(resource, "models.example")])
      ] == [{
        Sid      = "ReadBundle"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = ["arn:aws:s3:::models.example/people/v1/*"]
    }]
    error_message = "Of the bundle's bucket, the task may read exactly its prefix."
  }
}

run "reconcile" {
  command = plan

  module {
    source = "./modules/service"
  }

  assert {
    condition     = aws_scheduler_schedule.reconcile[0].schedule_expression == "rate(1 hours)" && aws_scheduler_schedule.reconcile[0].schedule_expression_timezone == "UTC" && aws_scheduler_schedule.reconcile[0].flexible_time_window[0].mode == "OFF"
    error_message = "It runs when it is said to."
  }

  assert {
    condition     = aws_scheduler_schedule.reconcile[0].target[0].retry_policy[0].maximum_event_age_in_seconds == 1800 && aws_scheduler_schedule.reconcile[0].target[0].retry_policy[0].maximum_retry_attempts == 3
    error_message = "A start is tried again for less than the hour after which the next one comes."
  }

  assert {
    condition     = aws_scheduler_schedule.reconcile[0].group_name == aws_scheduler_schedule_group.reconcile[0].name && output.reconcile == aws_scheduler_schedule_group.reconcile[0].name && output.reconcile == aws_ecs_task_definition.reconcile.family
    error_message = "Its schedule has a group of its own, in which the scheduler counts what it could not start."
  }

  assert {
    condition = (
      aws_scheduler_schedule.reconcile[0].target[0].arn == var.cluster.arn
      && aws_scheduler_schedule.reconcile[0].target[0].role_arn == aws_iam_role.scheduler[0].arn
      && aws_scheduler_schedule.reconcile[0].target[0].ecs_parameters[0].task_definition_arn == aws_ecs_task_definition.reconcile.arn
      && aws_scheduler_schedule.reconcile[0].target[0].ecs_parameters[0].launch_type == "FARGATE"
      && aws_scheduler_schedule.reconcile[0].target[0].ecs_parameters[0].task_count == 1
      && !aws_scheduler_schedule.reconcile[0].target[0].ecs_parameters[0].network_configuration[0].assign_public_ip
      && aws_scheduler_schedule.reconcile[0].target[0].ecs_parameters[0].network_configuration[0].subnets == toset(var.subnet_ids)
      && aws_scheduler_schedule.reconcile[0].target[0].ecs_parameters[0].network_configuration[0].security_groups == toset([aws_security_group.task.id])
    )
    error_message = "ECS itself is told to run one task, where the service's tasks are, and no GPU instance for it."
  }

  assert {
    condition = (
      aws_ecs_task_definition.reconcile.requires_compatibilities == toset(["FARGATE"])
      && [for container in jsondecode(aws_ecs_task_definition.reconcile.container_definitions) : container.command] == [["reconcile"]]
      && alltrue([
        for container in jsondecode(aws_ecs_task_definition.reconcile.container_definitions) :
        container.image == var.image && container.user == "10001:10001" && container.readonlyRootFilesystem && !container.privileged
        && container.linuxParameters.capabilities.drop == ["ALL"] && container.logConfiguration.options.mode == "non-blocking"
        && container.linuxParameters.initProcessEnabled && container.logConfiguration.options["max-buffer-size"] == "4m"
        && !can(container.resourceRequirements) && !can(container.mountPoints)
      ])
      && length(aws_ecs_task_definition.reconcile.volume) == 0
    )
    error_message = "The same image runs `poller reconcile`, confined like the service, without a GPU; it writes nothing, and a volume of Fargate would be root's."
  }

  assert {
    condition = {
      for variable in jsondecode(aws_ecs_task_definition.reconcile.container_definitions)[0].environment : variable.name => variable.value if startswith(variable.name, "POLLER_")
    } == merge(output.environment, { POLLER_DEVICE = "cpu" })
    error_message = "It has the service's environment."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.scheduler[0].policy).Statement : statement.Sid => [statement.Action, statement.Resource]
      } == {
      Run            = [["ecs:RunTask"], ["arn:aws:ecs:eu-central-1:123456789012:task-definition/poller-test-reconcile:1"]]
      Tag            = [["ecs:TagResource"], ["arn:aws:ecs:eu-central-1:123456789012:task/poller-test/*"]]
      GiveItItsRoles = [["iam:PassRole"], ["arn:aws:iam::123456789012:role/task", "arn:aws:iam::123456789012:role/execution"]]
    }
    error_message = "The scheduler may run this task, and give it its two roles."
  }

  assert {
    condition = (
      jsondecode(aws_iam_role.scheduler[0].assume_role_policy).Statement[0].Effect == "Allow"
      && jsondecode(aws_iam_role.scheduler[0].assume_role_policy).Statement[0].Principal.Service == "scheduler.amazonaws.com"
      && jsondecode(aws_iam_role.scheduler[0].assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
      && jsondecode(aws_iam_role_policy.scheduler[0].policy).Statement[0].Condition.ArnEquals["ecs:cluster"] == var.cluster.arn
      && jsondecode(aws_iam_role_policy.scheduler[0].policy).Statement[2].Condition.StringEquals["iam:PassedToService"] == "ecs-tasks.amazonaws.com"
    )
    error_message = "Only the scheduler of this account, in this cluster, and only for tasks."
  }
}

run "reconcile_sweeps" {
  command = plan

  variables {
    reconcile = { schedule = "cron(0 3 * * ? *)", sweeps_bucket = true }
  }

  module {
    source = "./modules/service"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.reconcile.container_definitions)[0].command == ["reconcile", "--bucket", "s3://raw"]
    error_message = "It lists the bucket where that is wanted."
  }
}

run "reconcile_never" {
  command = plan

  variables {
    reconcile = null
  }

  module {
    source = "./modules/service"
  }

  assert {
    condition     = length(aws_scheduler_schedule.reconcile) + length(aws_scheduler_schedule_group.reconcile) + length(aws_iam_role.scheduler) + length(aws_iam_role_policy.scheduler) == 0 && output.reconcile == null
    error_message = "Nothing starts it."
  }

  assert {
    condition     = output.reconcile_task_definition == aws_ecs_task_definition.reconcile.arn && strcontains(output.run_command, " --group operator --task-definition poller-test-reconcile ")
    error_message = "Operators run their commands all the same."
  }
}
