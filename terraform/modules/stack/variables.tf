# Every default of the whole is here, once; what a number may be is said in the module that uses it.

variable "name" {
  description = "Prefix of every name, such as video-poller-dev"
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name must be 3 to 24 lower-case letters, digits and single hyphens, beginning with a letter: buckets, queues and the database are named after it."
  }

  validation {
    condition     = !can(regex("^(aws|ecs|fargate)", var.name))
    error_message = "name must not begin with aws, ecs or fargate: ECS keeps those for its own capacity providers."
  }
}

variable "image_digest" {
  description = "Digest of the image in the environment's repository: sha256 and 64 hex digits, as `docker push` prints it"
  type        = string

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", var.image_digest))
    error_message = "image_digest must be sha256:<64 hex digits>: push the image first, `docker push` prints it. A tag does not say what runs."
  }
}

variable "max_tasks" {
  description = "Most tasks at once, each on an instance of its own: the ceiling of the bill"
  type        = number
  default     = 4

  # A zone's subnet is a sixteenth of the range, of which AWS keeps five addresses and the endpoints
  # take nine; an instance takes one, and so does its task. A few are for the database and reconcile.
  validation {
    condition     = var.existing_network != null || try(2 * var.max_tasks + 4 <= max(2, length(var.zones)) * (pow(2, 28 - tonumber(split("/", var.cidr)[1])) - 14), true)
    error_message = "max_tasks has too few addresses, two for each task: make cidr larger (10.40.0.0/16 has room for a thousand tasks), name a further zone, or have fewer tasks."
  }
}

variable "existing_network" {
  description = "A VPC that is there already, and its private subnets; null: make one. It needs a way to the AWS APIs (NAT or endpoints) and Amazon's own DNS, since nothing leaves to another one"
  type = object({
    vpc_id     = string
    subnet_ids = list(string)
  })
  default = null
}

variable "cidr" {
  description = "IPv4 range of the new VPC"
  type        = string
  default     = "10.40.0.0/16"
}

variable "zones" {
  description = "Availability zones of the new VPC, such as [\"eu-central-1a\", \"eu-central-1b\"]; empty: the first two of the region"
  type        = list(string)
  default     = []
}

variable "nat" {
  description = "Whether the new VPC gets a NAT gateway. The service needs none: what it speaks to has endpoints"
  type        = bool
  default     = false
}

variable "prefix" {
  description = "Keys of uploads begin with this; others are stored and not announced"
  type        = string
  default     = "videos/"
}

variable "suffixes" {
  description = "Keys of videos end with one of these, in lower or in upper case"
  type        = set(string)
  default     = [".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts"]
}

variable "visibility_seconds" {
  description = "How long SQS hides a message that was received, until the first heartbeat changes that, s"
  type        = number
  default     = 900
}

variable "wait_time_seconds" {
  description = "Long poll, s"
  type        = number
  default     = 20
}

variable "retention_days" {
  description = "How long the queue keeps a message, days"
  type        = number
  default     = 4
}

variable "dlq_retention_days" {
  description = "How long the dead-letter queue keeps a message, counted from its first sending where SQS moved it, days"
  type        = number
  default     = 14
}

variable "max_receive_count" {
  description = "Deliveries until SQS itself moves a message to the dead-letter queue: a backstop behind the attempts that the database counts, since deploys, spot and busy deliveries count too"
  type        = number
  default     = 10
}

variable "raw_expiration_days" {
  description = "Uploads are deleted after this, days; null: never"
  type        = number
  default     = null
}

variable "noncurrent_days" {
  description = "Overwritten and deleted objects are kept this long, days"
  type        = number
  default     = 30
}

variable "is_disposable" {
  description = "Whether destroying the environment also deletes what is in it: objects, images, the database"
  type        = bool
  default     = false
}

variable "kept_images" {
  description = "How many of the newest images are kept, for a roll-back"
  type        = number
  default     = 20
}

variable "existing_database" {
  description = "A database that is there already: the secret with its login, and its URL without one, such as postgresql://host:5432/name?sslmode=require; null: make one"
  type = object({
    secret_arn = string
    url        = string
  })
  default = null
}

variable "database_client_security_group_ids" {
  description = "Further security groups that may connect to the new database, by what they are, such as { bastion = \"sg-0123456789abcdef0\" }: who is paged asks it with psql from there"
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(keys(var.database_client_security_group_ids), "tasks")
    error_message = "database_client_security_group_ids must not have the name tasks: that is the service's own group."
  }

  validation {
    condition     = length(var.database_client_security_group_ids) == 0 || var.existing_database == null
    error_message = "database_client_security_group_ids is for the database that is made here: let others into an existing one by its own security group."
  }
}

variable "postgres_version" {
  description = "PostgreSQL, as major version (newest minor) or in full. pgvector below 0.8.4 has a known fault in its index"
  type        = string
  default     = "17"
}

variable "database_class" {
  description = "RDS instance class"
  type        = string
  default     = "db.t4g.medium"
}

variable "database_gib" {
  description = "Storage of the database at the start, GiB"
  type        = number
  default     = 50
}

variable "max_database_gib" {
  description = "RDS adds storage up to this, GiB"
  type        = number
  default     = 500
}

variable "is_multi_az" {
  description = "Whether a standby database in another zone takes over when the first fails"
  type        = bool
  default     = false
}

variable "backup_days" {
  description = "How far back the database can be restored, days"
  type        = number
  default     = 7
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps logs, days"
  type        = number
  default     = 7
}

variable "instance_types" {
  description = "EC2 types with one NVIDIA GPU each, the preferred one first. All count the same, so they should be alike"
  type        = list(string)
  default     = ["g5.xlarge", "g6.xlarge"]
}

variable "on_demand_base" {
  description = "Of the instances that run, the first so many are on demand; the others are spot, but for on_demand_percent"
  type        = number
  default     = 0
}

variable "on_demand_percent" {
  description = "Of the instances above on_demand_base, so many are on demand, percent"
  type        = number
  default     = 0
}

variable "ami_parameter" {
  description = "Public SSM parameter that names the AMI; read anew by EC2 at each start of an instance"
  type        = string
  default     = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
}

variable "root_gib" {
  description = "Disk of an instance, for images and for the videos in flight, GiB"
  type        = number
  default     = 160

  validation {
    condition     = var.root_gib >= 60 + var.max_concurrent_videos * var.max_video_gib
    error_message = "root_gib must be at least 60 + max_concurrent_videos * max_video_gib: the videos in flight lie on it, beside the AMI and the image."
  }
}

variable "tags" {
  description = "Tags of the instances and their volumes, which the provider's default tags do not reach"
  type        = map(string)
  default     = {}
}

variable "cpu_units" {
  description = "CPU of a task, in units of which 1024 are a vCPU"
  type        = number
  default     = 4096

  validation {
    condition     = var.cpu_units <= local.smallest.vcpus * 1024
    error_message = "cpu_units must be at most 1024 for each vCPU of the smallest of instance_types: a larger task fits on no such instance and waits for ever."
  }
}

variable "memory_mib" {
  description = "Memory of a task, MiB"
  type        = number
  default     = 14336

  validation {
    condition     = var.memory_mib <= local.smallest.memory_gib * 1024 * 0.9
    error_message = "memory_mib must be at most nine tenths of the memory of the smallest of instance_types: the rest is the system's and the agent's, and a larger task waits for ever."
  }
}

variable "http_port" {
  description = "Port of metrics and health"
  type        = number
  default     = 9102
}

variable "lease_seconds" {
  description = "How long a claim holds without a heartbeat, s"
  type        = number
  default     = 90
}

variable "heartbeat_seconds" {
  description = "Time between heartbeats, s"
  type        = number
  default     = 30
}

variable "drain_seconds" {
  description = "Time to finish after SIGTERM, s"
  type        = number
  default     = 90
}

variable "stop_timeout_seconds" {
  description = "The container is killed this long after SIGTERM, s"
  type        = number
  default     = 120
}

variable "max_attempts" {
  description = "Attempts before a video is failed and its message goes to the dead-letter queue"
  type        = number
  default     = 3
}

variable "max_concurrent_videos" {
  description = "Videos in flight at once in one task"
  type        = number
  default     = 4
}

variable "max_video_gib" {
  description = "Largest video, GiB"
  type        = number
  default     = 20
}

variable "max_video_hours" {
  description = "Longest video, hours"
  type        = number
  default     = 4
}

variable "model" {
  description = "What finds persons: builtin for no models, or s3://bucket/prefix, the directory of a model bundle, in this region and without a slash at its end"
  type        = string
  default     = "builtin"
}

variable "settings" {
  description = "Further POLLER_ variables by name, such as { POLLER_SAMPLE_FPS = \"2\" }; docs/reference.md has them all"
  type        = map(string)
  default     = {}
}

variable "scraper_security_group_ids" {
  description = "Security groups of the Prometheus servers that may read /metrics, by what they are"
  type        = map(string)
  default     = {}
}

variable "acceptable_wait_seconds" {
  description = "How long a video may wait for its result while instances are running, s. The start of an instance comes on top"
  type        = number
  default     = 600
}

variable "seconds_per_video" {
  description = "How long a busy task takes from one finished video to the next, on average, s: 3600 divided by the videos that it does in an hour"
  type        = number
  default     = 60
}

variable "quiet_seconds" {
  description = "The last task goes when nothing was waiting and nothing in work for so long, s"
  type        = number
  default     = 900
}

variable "warm" {
  description = "When at least one task is kept although nothing waits: two cron expressions as EventBridge has them, such as { start = \"cron(0 7 ? * MON-FRI *)\", stop = \"cron(0 19 ? * MON-FRI *)\", timezone = \"Europe/Berlin\" }; without a timezone they are UTC; null: never"
  type = object({
    start    = string
    stop     = string
    timezone = optional(string, "UTC")
  })
  default = null
}

variable "emails" {
  description = "Addresses that are told; each must confirm once. Others subscribe to the topic"
  type        = set(string)
  default     = []
}

variable "runbook" {
  description = "Address under which those who are told read docs/runbook.md"
  type        = string
  default     = "docs/runbook.md"
}

variable "alarm_depth" {
  description = "Messages that wait, from which on it is too many"
  type        = number
  default     = 100
}

variable "alarm_age_seconds" {
  description = "Age of the oldest message from which on it is too old, s"
  type        = number
  default     = 21600
}

variable "duplicates_per_video" {
  description = "Duplicates for each analysed video, from which on it is too many. One is usual where S3 and the application both announce an upload"
  type        = number
  default     = 3
}

variable "no_progress_minutes" {
  description = "Messages wait and none was finished for so long, minutes; at least as long as the longest video plays"
  type        = number
  default     = 240

  validation {
    condition     = var.no_progress_minutes >= var.max_video_hours * 60
    error_message = "no_progress_minutes must be at least 60 * max_video_hours: while the longest videos are at work on every task, nothing is finished and nothing is wrong."
  }
}

variable "capacity_minutes" {
  description = "Tasks wait for an instance for so long, minutes"
  type        = number
  default     = 15
}

variable "reconcile" {
  description = "When `poller reconcile` runs, in UTC, as EventBridge Scheduler has it, such as rate(1 hours) or cron(0 * * * ? *), and whether it lists the whole bucket for uploads that were never announced; null: never"
  type = object({
    schedule      = string
    sweeps_bucket = optional(bool, false)
  })
  default = { schedule = "rate(1 hours)" }
}
