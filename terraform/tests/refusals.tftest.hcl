# What is refused, with a message that says what to change.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

# Good values for every module; each run spoils one.
variables {
  name                 = "poller-test"
  existing             = null
  cidr                 = "10.40.0.0/16"
  zones                = []
  nat                  = false
  kept_images          = 20
  is_disposable        = false
  vpc_id               = "vpc-1"
  subnet_ids           = ["subnet-1", "subnet-2"]
  clients              = { tasks = "sg-tasks" }
  engine_version       = "17"
  instance_class       = "db.t4g.medium"
  storage_gib          = 50
  max_storage_gib      = 500
  is_multi_az          = true
  backup_days          = 7
  log_retention_days   = 7
  instance_types       = ["g5.xlarge", "g4dn.xlarge"]
  max_instances        = 4
  on_demand_base       = 1
  on_demand_percent    = 0
  ami_parameter        = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
  root_gib             = 160
  stop_timeout_seconds = 120
  tags                 = { Application = "video-poller" }
  reconcile            = null
  prefix               = "videos/"
  suffixes             = [".mov", ".mp4"]
  visibility_seconds   = 900
  wait_time_seconds    = 20
  retention_days       = 4
  dlq_retention_days   = 14
  max_receive_count    = 10
  raw_expiration_days  = 30
  noncurrent_days      = 30
  image                = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/poller-test@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  repository_arn       = "arn:aws:ecr:eu-central-1:123456789012:repository/poller-test"
  cluster              = { name = "poller-test", arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/poller-test" }
  capacity_provider    = "poller-test"
  raw_bucket           = { name = "raw", arn = "arn:aws:s3:::raw" }
  results_bucket       = { name = "results", arn = "arn:aws:s3:::results" }
  queue                = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads", arn = "arn:aws:sqs:eu-central-1:123456789012:uploads" }
  dlq                  = { url = "https://sqs.eu-central-1.amazonaws.com/123456789012/dlq", arn = "arn:aws:sqs:eu-central-1:123456789012:dlq" }
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
  drain_seconds              = 90
  max_attempts               = 3
  max_concurrent_videos      = 4
  max_video_gib              = 20
  max_video_hours            = 4
  model                      = "builtin"
  settings                   = { POLLER_SAMPLE_FPS = "2" }
  scraper_security_group_ids = { prometheus = "sg-prometheus" }
  cluster_name               = "poller-test"
  service_name               = "poller-test"
  queue_name                 = "poller-test-uploads"
  max_tasks                  = 4
  acceptable_wait_seconds    = 600
  seconds_per_video          = 60
  quiet_seconds              = 900
  warm                       = null
  emails                     = ["ops@example.com"]
  runbook                    = "docs/runbook.md"
  dlq_name                   = "uploads-dlq"
  autoscaling_group          = "poller-test"
  log_group                  = "/ecs/poller-test"
  depth                      = 100
  age_seconds                = 21600
  retention_seconds          = 345600
  duplicates_per_video       = 3
  no_progress_minutes        = 60
  capacity_minutes           = 15
}

run "existing_network_of_one_subnet" {
  command = plan
  variables {
    existing = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-1"] }
  }
  module {
    source = "./modules/network"
  }
  expect_failures = [var.existing]
}

run "range_too_small" {
  command = plan
  variables {
    cidr = "10.40.0.0/24"
  }
  module {
    source = "./modules/network"
  }
  expect_failures = [var.cidr]
}

run "range_that_is_none" {
  command = plan
  variables {
    cidr = "10.40.0.0"
  }
  module {
    source = "./modules/network"
  }
  expect_failures = [var.cidr]
}

run "one_zone" {
  command = plan
  variables {
    zones = ["eu-central-1a"]
  }
  module {
    source = "./modules/network"
  }
  expect_failures = [var.zones]
}

run "the_same_zone_twice" {
  command = plan
  variables {
    zones = ["eu-central-1a", "eu-central-1a"]
  }
  module {
    source = "./modules/network"
  }
  expect_failures = [var.zones]
}

run "prefix_without_slash" {
  command = plan
  variables {
    prefix = "videos"
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.prefix]
}

run "prefix_with_star" {
  command = plan
  variables {
    prefix = "*/"
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.prefix]
}

run "suffix_without_dot" {
  command = plan
  variables {
    suffixes = ["mp4"]
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.suffixes]
}

run "no_suffix" {
  command = plan
  variables {
    suffixes = []
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.suffixes]
}

run "visibility_over_twelve_hours" {
  command = plan
  variables {
    visibility_seconds = 43201
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.visibility_seconds]
}

run "poll_too_long" {
  command = plan
  variables {
    wait_time_seconds = 21
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.wait_time_seconds]
}

run "poll_that_does_not_wait" {
  command = plan
  variables {
    wait_time_seconds = 0
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.wait_time_seconds]
}

run "retention_too_long" {
  command = plan
  variables {
    retention_days     = 15
    dlq_retention_days = 14
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.retention_days]
}

run "dead_letters_kept_no_longer" {
  command = plan
  variables {
    retention_days = 14
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.dlq_retention_days]
}

run "too_few_deliveries" {
  command = plan
  variables {
    max_receive_count = 3
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.max_receive_count]
}

run "uploads_gone_before_their_letters" {
  command = plan
  variables {
    raw_expiration_days = 14
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.raw_expiration_days]
}

run "versions_gone_at_once" {
  command = plan
  variables {
    noncurrent_days = 0
  }
  module {
    source = "./modules/intake"
  }
  expect_failures = [var.noncurrent_days]
}

run "no_image_to_go_back_to" {
  command = plan
  variables {
    kept_images = 1
  }
  module {
    source = "./modules/image"
  }
  expect_failures = [var.kept_images]
}

run "login_in_a_url" {
  command = plan
  variables {
    existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:s", url = "postgresql://me:secret@db:5432/poller?sslmode=require" }
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.existing]
}

run "database_without_tls" {
  command = plan
  variables {
    existing = { secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:s", url = "postgresql://db:5432/poller" }
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.existing]
}

run "secret_that_is_none" {
  command = plan
  variables {
    existing = { secret_arn = "my-secret", url = "postgresql://db:5432/poller?sslmode=require" }
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.existing]
}

run "database_in_one_subnet" {
  command = plan
  variables {
    subnet_ids = ["subnet-1"]
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.subnet_ids]
}

run "postgres_too_old" {
  command = plan
  variables {
    engine_version = "13"
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.engine_version]
}

run "instance_class_of_ec2" {
  command = plan
  variables {
    instance_class = "m7g.large"
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.instance_class]
}

run "storage_too_small" {
  command = plan
  variables {
    storage_gib = 10
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.storage_gib]
}

run "storage_that_cannot_grow" {
  command = plan
  variables {
    max_storage_gib = 50
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.max_storage_gib]
}

run "no_backup" {
  command = plan
  variables {
    backup_days = 0
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.backup_days]
}

run "database_log_for_eight_days" {
  command = plan
  variables {
    log_retention_days = 8
  }
  module {
    source = "./modules/database"
  }
  expect_failures = [var.log_retention_days]
}

run "instances_in_one_subnet" {
  command = plan
  variables {
    subnet_ids = ["subnet-1"]
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.subnet_ids]
}

run "four_gpus" {
  command = plan
  variables {
    instance_types = ["g5.12xlarge"]
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.instance_types]
}

run "eight_gpus" {
  command = plan
  variables {
    instance_types = ["g5.xlarge", "g4dn.metal"]
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.instance_types]
}

run "no_gpu" {
  command = plan
  variables {
    instance_types = ["m7i.xlarge"]
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.instance_types]
}

run "no_type" {
  command = plan
  variables {
    instance_types = []
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.instance_types]
}

run "no_instance" {
  command = plan
  variables {
    max_instances  = 0
    on_demand_base = 0
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.max_instances]
}

run "more_on_demand_than_there_are" {
  command = plan
  variables {
    on_demand_base = 5
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.on_demand_base]
}

run "percent_over_hundred" {
  command = plan
  variables {
    on_demand_percent = 101
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.on_demand_percent]
}

run "ami_without_driver" {
  command = plan
  variables {
    ami_parameter = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.ami_parameter]
}

run "disk_without_room_for_the_image" {
  command = plan
  variables {
    root_gib = 30
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.root_gib]
}

run "cluster_log_for_eight_days" {
  command = plan
  variables {
    log_retention_days = 8
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.log_retention_days]
}

run "stop_longer_than_spot" {
  command = plan
  variables {
    stop_timeout_seconds = 121
  }
  module {
    source = "./modules/cluster"
  }
  expect_failures = [var.stop_timeout_seconds]
}

run "image_by_tag" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/poller-test:latest"
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.image]
}

run "cpu_of_no_task" {
  command = plan
  variables {
    cpu_units = 1000
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.cpu_units]
}

run "memory_below_torch" {
  command = plan
  variables {
    memory_mib = 4096
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.memory_mib]
}

run "reconcile_every_minute" {
  command = plan
  variables {
    reconcile = { schedule = "rate(1 minutes)" }
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.reconcile]
}

run "port_of_root" {
  command = plan
  variables {
    http_port = 80
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.http_port]
}

run "heartbeat_as_long_as_the_lease" {
  command = plan
  variables {
    heartbeat_seconds = 90
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.lease_seconds]
}

run "heartbeat_that_never_waits" {
  command = plan
  variables {
    heartbeat_seconds = 1
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.heartbeat_seconds]
}

run "visibility_below_the_lease" {
  command = plan
  variables {
    visibility_seconds = 119
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.visibility_seconds]
}

run "drain_below_the_poll" {
  command = plan
  variables {
    drain_seconds = 31
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.drain_seconds]
}

run "kill_before_the_drain_ends" {
  command = plan
  variables {
    stop_timeout_seconds = 99
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.stop_timeout_seconds]
}

run "kill_after_spot" {
  command = plan
  variables {
    stop_timeout_seconds = 121
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.stop_timeout_seconds]
}

run "no_attempt" {
  command = plan
  variables {
    max_attempts = 0
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.max_attempts]
}

run "no_video_at_once" {
  command = plan
  variables {
    max_concurrent_videos = 0
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.max_concurrent_videos]
}

run "half_an_attempt" {
  command = plan
  variables {
    max_attempts = 2.5
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.max_attempts]
}

run "half_a_video_at_once" {
  command = plan
  variables {
    max_concurrent_videos = 2.5
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.max_concurrent_videos]
}

run "no_size" {
  command = plan
  variables {
    max_video_gib = 0
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.max_video_gib]
}

run "days_of_video" {
  command = plan
  variables {
    max_video_hours = 25
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.max_video_hours]
}

run "setting_of_another" {
  command = plan
  variables {
    settings = { AWS_PROFILE = "mine" }
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.settings]
}

run "setting_that_is_set" {
  command = plan
  variables {
    settings = { POLLER_LEASE_SECONDS = "30" }
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.settings]
}

run "log_that_no_alarm_reads" {
  command = plan
  variables {
    settings = { POLLER_LOG_FORMAT = "console" }
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.settings]
}

run "log_without_its_last_line" {
  command = plan
  variables {
    settings = { POLLER_LOG_LEVEL = "WARNING" }
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.settings]
}

run "log_for_eight_days" {
  command = plan
  variables {
    log_retention_days = 8
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.log_retention_days]
}

run "no_task" {
  command = plan
  variables {
    max_tasks = 0
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.max_tasks]
}

run "half_a_task" {
  command = plan
  variables {
    max_tasks = 1.5
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.max_tasks]
}

run "wait_below_the_work" {
  command = plan
  variables {
    acceptable_wait_seconds = 59
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.acceptable_wait_seconds]
}

run "work_of_no_time" {
  command = plan
  variables {
    seconds_per_video = 0
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.seconds_per_video]
}

run "quiet_too_short" {
  command = plan
  variables {
    quiet_seconds = 240
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.quiet_seconds]
}

run "quiet_of_no_whole_minutes" {
  command = plan
  variables {
    quiet_seconds = 901
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.quiet_seconds]
}

run "warm_at_no_time" {
  command = plan
  variables {
    warm = { start = "7:00", stop = "19:00" }
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.warm]
}

run "warm_in_no_place" {
  command = plan
  variables {
    warm = { start = "cron(0 7 ? * MON-FRI *)", stop = "cron(0 19 ? * MON-FRI *)", timezone = "+02:00" }
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.warm]
}

run "warm_for_no_time" {
  command = plan
  variables {
    warm = { start = "cron(0 7 ? * MON-FRI *)", stop = "cron(0 7 ? * MON-FRI *)" }
  }
  module {
    source = "./modules/scaling"
  }
  expect_failures = [var.warm]
}

run "model_in_the_image" {
  command = plan
  variables {
    model = "/opt/models/people"
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.model]
}

run "model_that_is_a_bucket" {
  command = plan
  variables {
    model = "s3://models"
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.model]
}

run "model_that_is_a_pattern" {
  command = plan
  variables {
    model = "s3://models/*"
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.model]
}

run "model_with_a_slash" {
  command = plan
  variables {
    model = "s3://models/people/"
  }
  module {
    source = "./modules/service"
  }
  expect_failures = [var.model]
}

run "address_that_is_none" {
  command = plan
  variables {
    emails = ["ops"]
  }
  module {
    source = "./modules/alarms"
  }
  expect_failures = [var.emails]
}

run "a_section_of_the_runbook" {
  command = plan
  variables {
    runbook = "https://example.com/runbook#dlq"
  }
  module {
    source = "./modules/alarms"
  }
  expect_failures = [var.runbook]
}

run "depth_of_nothing" {
  command = plan
  variables {
    depth = 0
  }
  module {
    source = "./modules/alarms"
  }
  expect_failures = [var.depth]
}

run "age_after_the_loss" {
  command = plan
  variables {
    age_seconds = 345600
  }
  module {
    source = "./modules/alarms"
  }
  expect_failures = [var.age_seconds]
}

run "each_duplicate" {
  command = plan
  variables {
    duplicates_per_video = 0
  }
  module {
    source = "./modules/alarms"
  }
  expect_failures = [var.duplicates_per_video]
}

run "progress_every_minute" {
  command = plan
  variables {
    no_progress_minutes = 1
  }
  module {
    source = "./modules/alarms"
  }
  expect_failures = [var.no_progress_minutes]
}

run "capacity_at_once" {
  command = plan
  variables {
    capacity_minutes = 1
  }
  module {
    source = "./modules/alarms"
  }
  expect_failures = [var.capacity_minutes]
}
