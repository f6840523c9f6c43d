# The whole: each part gets its own numbers, and those that must agree come from one variable each.

locals {
  # vCPUs and GiB of the instance types with one GPU, by size; the least of any family.
  sizes = {
    xlarge     = { vcpus = 4, memory_gib = 16 }
    "2xlarge"  = { vcpus = 8, memory_gib = 32 }
    "4xlarge"  = { vcpus = 16, memory_gib = 64 }
    "8xlarge"  = { vcpus = 32, memory_gib = 128 }
    "16xlarge" = { vcpus = 64, memory_gib = 256 }
  }

  # A type that is none of these is refused by the cluster; here it only must not come first.
  fitting = [for type in var.instance_types : local.sizes[split(".", type)[1]] if contains(keys(local.sizes), try(split(".", type)[1], ""))]
  smallest = {
    vcpus      = min(64, local.fitting[*].vcpus...)
    memory_gib = min(256, local.fitting[*].memory_gib...)
  }
}

module "network" {
  source = "../network"

  name     = var.name
  existing = var.existing_network
  cidr     = var.cidr
  zones    = var.zones
  nat      = var.nat
}

module "intake" {
  source = "../intake"

  name                = var.name
  prefix              = var.prefix
  suffixes            = var.suffixes
  visibility_seconds  = var.visibility_seconds
  wait_time_seconds   = var.wait_time_seconds
  retention_days      = var.retention_days
  dlq_retention_days  = var.dlq_retention_days
  max_receive_count   = var.max_receive_count
  raw_expiration_days = var.raw_expiration_days
  noncurrent_days     = var.noncurrent_days
  is_disposable       = var.is_disposable
}

module "image" {
  source = "../image"

  name          = var.name
  kept_images   = var.kept_images
  is_disposable = var.is_disposable
}

module "database" {
  source = "../database"

  name               = var.name
  existing           = var.existing_database
  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.subnet_ids
  clients            = merge(var.database_client_security_group_ids, { tasks = module.service.security_group_id })
  engine_version     = var.postgres_version
  instance_class     = var.database_class
  storage_gib        = var.database_gib
  max_storage_gib    = var.max_database_gib
  is_multi_az        = var.is_multi_az
  backup_days        = var.backup_days
  log_retention_days = var.log_retention_days
  is_disposable      = var.is_disposable
}

module "cluster" {
  source = "../cluster"

  name                 = var.name
  vpc_id               = module.network.vpc_id
  subnet_ids           = module.network.subnet_ids
  instance_types       = var.instance_types
  max_instances        = var.max_tasks
  on_demand_base       = var.on_demand_base
  on_demand_percent    = var.on_demand_percent
  ami_parameter        = var.ami_parameter
  root_gib             = var.root_gib
  stop_timeout_seconds = var.stop_timeout_seconds
  log_retention_days   = var.log_retention_days
  tags                 = var.tags
}

module "service" {
  source = "../service"

  name                       = var.name
  image                      = "${module.image.url}@${var.image_digest}"
  repository_arn             = module.image.arn
  cluster                    = module.cluster.cluster
  capacity_provider          = module.cluster.capacity_provider
  vpc_id                     = module.network.vpc_id
  subnet_ids                 = module.network.subnet_ids
  raw_bucket                 = module.intake.raw_bucket
  results_bucket             = module.intake.results_bucket
  queue                      = module.intake.queue
  dlq                        = module.intake.dlq
  database                   = { url = module.database.url, port = module.database.port, secret_arn = module.database.secret_arn }
  cpu_units                  = var.cpu_units
  memory_mib                 = var.memory_mib
  http_port                  = var.http_port
  lease_seconds              = var.lease_seconds
  heartbeat_seconds          = var.heartbeat_seconds
  visibility_seconds         = var.visibility_seconds
  wait_time_seconds          = var.wait_time_seconds
  drain_seconds              = var.drain_seconds
  stop_timeout_seconds       = var.stop_timeout_seconds
  max_attempts               = var.max_attempts
  max_concurrent_videos      = var.max_concurrent_videos
  max_video_gib              = var.max_video_gib
  max_video_hours            = var.max_video_hours
  model                      = var.model
  settings                   = var.settings
  reconcile                  = var.reconcile
  scraper_security_group_ids = var.scraper_security_group_ids
  log_retention_days         = var.log_retention_days
}

module "scaling" {
  source = "../scaling"

  name                    = var.name
  cluster_name            = module.cluster.cluster.name
  service_name            = module.service.service
  queue_name              = module.intake.queue.name
  max_tasks               = var.max_tasks
  acceptable_wait_seconds = var.acceptable_wait_seconds
  seconds_per_video       = var.seconds_per_video
  quiet_seconds           = var.quiet_seconds
  warm                    = var.warm
}

module "alarms" {
  source = "../alarms"

  name                 = var.name
  emails               = var.emails
  runbook              = var.runbook
  queue_name           = module.intake.queue.name
  dlq_name             = module.intake.dlq.name
  cluster_name         = module.cluster.cluster.name
  service_name         = module.service.service
  capacity_provider    = module.cluster.capacity_provider
  autoscaling_group    = module.cluster.autoscaling_group
  log_group            = module.service.log_group
  reconcile            = module.service.reconcile
  depth                = var.alarm_depth
  age_seconds          = var.alarm_age_seconds
  retention_seconds    = var.retention_days * 86400
  duplicates_per_video = var.duplicates_per_video
  no_progress_minutes  = var.no_progress_minutes
  capacity_minutes     = var.capacity_minutes
}
