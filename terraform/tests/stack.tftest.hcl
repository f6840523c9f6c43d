# The whole, with its own defaults: numbers that must agree, and parts that must know each other.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

override_resource {
  target          = module.intake.aws_sqs_queue.dlq
  override_during = plan
  values = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:dlq"
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/dlq"
  }
}

variables {
  name         = "poller-test"
  image_digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

run "numbers_agree" {
  command = plan

  module {
    source = "./modules/stack"
  }

  assert {
    condition = output.timing == {
      visibility   = 900
      lease        = 90
      heartbeat    = 30
      wait         = 20
      drain        = 90
      task_stop    = 120
      cluster_stop = 120
    }
    error_message = "The numbers of the design."
  }

  assert {
    condition     = output.timing.visibility == tonumber(output.environment.POLLER_VISIBILITY_SECONDS) && output.timing.visibility >= output.timing.lease + 30
    error_message = "Queue and service hide a message for the same time, which outlives a lease."
  }

  assert {
    condition     = output.timing.lease > 2 * output.timing.heartbeat
    error_message = "A lease outlives a late heartbeat."
  }

  assert {
    condition     = output.timing.wait + 12 <= output.timing.drain && output.timing.drain + 10 <= output.timing.task_stop && output.timing.task_stop <= 120 && output.timing.cluster_stop == output.timing.task_stop
    error_message = "An open poll ends before the drain, the drain before the kill, the kill within the two minutes of spot."
  }

  assert {
    condition     = output.scaling_policy.target == 10 && output.scaling_policy.max_tasks == 4 && output.scaling_policy.quiet_seconds == 900
    error_message = "Scaling says what it does."
  }
}

run "one_number_moves_all_that_use_it" {
  command = plan

  variables {
    visibility_seconds   = 600
    wait_time_seconds    = 10
    drain_seconds        = 60
    stop_timeout_seconds = 100
  }

  module {
    source = "./modules/stack"
  }

  assert {
    condition     = output.timing.visibility == 600 && output.environment.POLLER_VISIBILITY_SECONDS == "600"
    error_message = "Visibility is one number."
  }

  assert {
    condition     = output.timing.task_stop == 100 && output.timing.cluster_stop == 100
    error_message = "The stop timeout is one number."
  }
}

run "parts_know_each_other" {
  command = plan

  module {
    source = "./modules/stack"
  }

  assert {
    condition     = output.environment.POLLER_QUEUE_URL == output.queue_url && output.environment.POLLER_DLQ_URL == output.dlq_url && output.environment.POLLER_RAW_BUCKET == output.raw_bucket
    error_message = "The service polls the queue that the bucket tells."
  }

  assert {
    condition     = output.environment.POLLER_DATABASE_URL == output.database_url && output.environment.POLLER_DATABASE_SECRET_ARN == output.database_secret_arn
    error_message = "The service stores in the database that was made."
  }

  assert {
    condition     = keys(module.database.clients) == ["tasks"] && output.autoscaling_group == "poller-test"
    error_message = "Nobody else connects to it; the group of instances has the environment's name."
  }
}

run "operators_reach_the_database" {
  command = plan
  variables {
    database_client_security_group_ids = { bastion = "sg-bastion" }
  }
  module {
    source = "./modules/stack"
  }

  assert {
    condition     = module.database.clients == { bastion = "sg-bastion", tasks = output.task_security_group_id }
    error_message = "Beside the tasks, those that are named."
  }
}

run "a_client_that_displaces_the_tasks" {
  command = plan
  variables {
    database_client_security_group_ids = { tasks = "sg-bastion" }
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.database_client_security_group_ids]
}

run "a_client_of_a_database_that_was_there" {
  command = plan
  variables {
    database_client_security_group_ids = { bastion = "sg-bastion" }
    existing_database = {
      secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:login"
      url        = "postgresql://db.example.com:5432/shop?sslmode=require"
    }
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.database_client_security_group_ids]
}

run "as_many_tasks_as_there_are_addresses_for" {
  command = plan
  variables {
    cidr      = "10.40.0.0/22"
    max_tasks = 48
  }
  module {
    source = "./modules/stack"
  }
}

run "more_tasks_than_addresses" {
  command = plan
  variables {
    cidr      = "10.40.0.0/22"
    max_tasks = 49
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.max_tasks]
}

run "disk_too_small" {
  command = plan
  variables {
    root_gib = 139
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.root_gib]
}

run "cpu_for_the_smallest_type" {
  command = plan
  variables {
    instance_types = ["g5.2xlarge", "g4dn.xlarge"]
    cpu_units      = 8192
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.cpu_units]
}

run "memory_for_the_smallest_type" {
  command = plan
  variables {
    memory_mib = 15360
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.memory_mib]
}

run "larger_types_take_larger_tasks" {
  command = plan
  variables {
    instance_types = ["g5.2xlarge", "g6.2xlarge"]
    cpu_units      = 8192
    memory_mib     = 28672
  }
  module {
    source = "./modules/stack"
  }
}

run "longest_video_is_no_standstill" {
  command = plan
  variables {
    max_video_hours     = 5
    no_progress_minutes = 295
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.no_progress_minutes]
}

run "longer_videos_and_a_patient_alarm" {
  command = plan
  variables {
    max_video_hours     = 5
    no_progress_minutes = 300
  }
  module {
    source = "./modules/stack"
  }
}

run "name_with_capitals" {
  command = plan
  variables {
    name = "Poller"
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.name]
}

run "name_of_ecs" {
  command = plan
  variables {
    name = "ecs-poller"
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.name]
}

run "image_by_tag" {
  command = plan
  variables {
    image_digest = "latest"
  }
  module {
    source = "./modules/stack"
  }
  expect_failures = [var.image_digest]
}
