variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "image" {
  description = "The service's image, by digest: repository@sha256:…"
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must be named by digest, repository@sha256:<64 hex digits>: a tag does not say what runs. Push the image first, `docker push` prints its digest."
  }
}

variable "repository_arn" {
  description = "ECR repository that the image is pulled from"
  type        = string
}

variable "cluster" {
  description = "ECS cluster: name and ARN"
  type        = object({ name = string, arn = string })
}

variable "capacity_provider" {
  description = "Name of the capacity provider that the tasks run on"
  type        = string
}

variable "vpc_id" {
  description = "VPC of the tasks"
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the tasks"
  type        = list(string)
}

variable "raw_bucket" {
  description = "Bucket that videos are uploaded to: name and ARN"
  type        = object({ name = string, arn = string })
}

variable "results_bucket" {
  description = "Bucket for result files: name and ARN"
  type        = object({ name = string, arn = string })
}

variable "queue" {
  description = "Queue that announces uploads: URL and ARN"
  type        = object({ url = string, arn = string })
}

variable "dlq" {
  description = "Dead-letter queue: URL and ARN"
  type        = object({ url = string, arn = string })
}

variable "database" {
  description = "The database's URL without a login, its port, and the ARN of the secret with the login"
  type        = object({ url = string, port = number, secret_arn = string })
}

variable "cpu_units" {
  description = "CPU of a task, in units of which 1024 are a vCPU"
  type        = number

  validation {
    condition     = var.cpu_units >= 1024 && var.cpu_units % 256 == 0
    error_message = "cpu_units must be at least 1024 and a multiple of 256."
  }
}

variable "memory_mib" {
  description = "Memory of a task, MiB"
  type        = number

  validation {
    condition     = var.memory_mib >= 8192
    error_message = "memory_mib must be at least 8192: torch and four decoders take that."
  }
}

variable "http_port" {
  description = "Port of metrics and health"
  type        = number

  validation {
    condition     = var.http_port >= 1024 && var.http_port <= 65535
    error_message = "http_port must be 1024 to 65535: the service is not root."
  }
}

variable "lease_seconds" {
  description = "How long a claim holds without a heartbeat, s"
  type        = number

  validation {
    condition     = var.lease_seconds > var.heartbeat_seconds * 2
    error_message = "lease_seconds must be above twice heartbeat_seconds: otherwise one late heartbeat loses the work."
  }
}

variable "heartbeat_seconds" {
  description = "Time between heartbeats, s"
  type        = number

  validation {
    condition     = var.heartbeat_seconds >= 5
    error_message = "heartbeat_seconds must be at least 5: a heartbeat waits up to four for SQS."
  }
}

variable "visibility_seconds" {
  description = "How long a received message is hidden until the first heartbeat, s; the queue's own number"
  type        = number

  validation {
    condition     = var.visibility_seconds >= var.lease_seconds + 30
    error_message = "visibility_seconds must be at least lease_seconds + 30: otherwise a message is shown again while its lease still holds."
  }
}

variable "wait_time_seconds" {
  description = "Long poll, s; the queue's own number"
  type        = number
}

variable "drain_seconds" {
  description = "Time to finish after SIGTERM, s"
  type        = number

  validation {
    condition     = var.drain_seconds >= var.wait_time_seconds + 12
    error_message = "drain_seconds must be at least wait_time_seconds + 12: the open poll is awaited, and giving work back takes 12 s."
  }
}

variable "stop_timeout_seconds" {
  description = "The container is killed this long after SIGTERM, s"
  type        = number

  validation {
    condition     = var.stop_timeout_seconds >= var.drain_seconds + 10 && var.stop_timeout_seconds <= 120
    error_message = "stop_timeout_seconds must be at least drain_seconds + 10, so that a drain ends before the kill, and at most 120, what spot gives."
  }
}

variable "max_attempts" {
  description = "Attempts before a video is failed and its message goes to the dead-letter queue"
  type        = number

  validation {
    condition     = var.max_attempts >= 1 && var.max_attempts <= 100 && floor(var.max_attempts) == var.max_attempts
    error_message = "max_attempts must be a whole number from 1 to 100."
  }
}

variable "max_concurrent_videos" {
  description = "Videos in flight at once in one task"
  type        = number

  validation {
    condition     = var.max_concurrent_videos >= 1 && var.max_concurrent_videos <= 64 && floor(var.max_concurrent_videos) == var.max_concurrent_videos
    error_message = "max_concurrent_videos must be a whole number from 1 to 64."
  }
}

variable "max_video_gib" {
  description = "Largest video, GiB"
  type        = number

  validation {
    condition     = var.max_video_gib >= 1
    error_message = "max_video_gib must be at least 1."
  }
}

variable "max_video_hours" {
  description = "Longest video, hours"
  type        = number

  validation {
    condition     = var.max_video_hours > 0 && var.max_video_hours <= 24
    error_message = "max_video_hours must be above 0 and at most 24."
  }
}

variable "model" {
  description = "What finds persons: builtin for no models, or s3://bucket/prefix, the directory of a model bundle, in this region and without a slash at its end"
  type        = string

  validation {
    # What a policy reads as a pattern (* ? $) is in none of these names.
    condition     = can(regex("^(builtin|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9][A-Za-z0-9._=+-]*)+)$", var.model))
    error_message = "model must be builtin or s3://bucket/prefix, of letters, digits and . _ = + - and without a slash at its end: the image has no models in it, and the task may read nothing but that prefix."
  }
}

variable "settings" {
  description = "Further POLLER_ variables by name, such as { POLLER_SAMPLE_FPS = \"2\" }; docs/reference.md has them all"
  type        = map(string)

  validation {
    condition     = alltrue([for name in keys(var.settings) : startswith(name, "POLLER_")])
    error_message = "settings takes variables whose names begin with POLLER_."
  }

  validation {
    condition = length(setintersection(keys(var.settings), [
      "POLLER_ALLOWED_BUCKETS", "POLLER_DATABASE_SECRET_ARN", "POLLER_DATABASE_URL", "POLLER_DEVICE",
      "POLLER_DLQ_URL", "POLLER_DRAIN_SECONDS", "POLLER_HEARTBEAT_SECONDS", "POLLER_HTTP_PORT",
      "POLLER_LEASE_SECONDS", "POLLER_MAX_ATTEMPTS", "POLLER_MAX_CONCURRENT_VIDEOS",
      "POLLER_MAX_VIDEO_BYTES", "POLLER_MAX_VIDEO_SECONDS", "POLLER_MODEL", "POLLER_QUEUE_URL", "POLLER_RAW_BUCKET",
      "POLLER_RESULTS_BUCKET", "POLLER_VISIBILITY_SECONDS", "POLLER_WAIT_TIME_SECONDS", "POLLER_WORK_DIR",
    ])) == 0
    error_message = "settings names a variable that Terraform sets itself: use the Terraform variable of that name, so that the numbers agree."
  }

  validation {
    condition     = lookup(var.settings, "POLLER_LOG_FORMAT", "json") == "json" && contains(["DEBUG", "INFO"], lookup(var.settings, "POLLER_LOG_LEVEL", "INFO"))
    error_message = "settings must leave POLLER_LOG_FORMAT at json and POLLER_LOG_LEVEL at INFO or DEBUG: the alarm on duplicates, the dashboard and a deployment's smoke video read the log line video.finished."
  }
}

variable "scraper_security_group_ids" {
  description = "Security groups of the Prometheus servers that may read /metrics, by what they are"
  type        = map(string)
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the service's log, days"
  type        = number

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_retention_days)
    error_message = "log_retention_days must be one of those that CloudWatch offers, such as 1, 3, 5, 7, 14 or 30."
  }
}

variable "reconcile" {
  description = "When `poller reconcile` runs, in UTC, as EventBridge Scheduler has it, such as rate(1 hours) or cron(0 * * * ? *), and whether it lists the whole bucket for uploads that were never announced; null: never"
  type = object({
    schedule      = string
    sweeps_bucket = optional(bool, false)
  })

  validation {
    condition     = var.reconcile == null ? true : can(regex("^(cron\\(([^ ]+ ){5}[^ ]+\\)|rate\\([1-9][0-9]* (hours?|days?)\\))$", var.reconcile.schedule))
    error_message = "reconcile.schedule must be rate(1 hours), rate(N hours), rate(N days) or cron(minute hour day-of-month month day-of-week year): it announces what is idle for an hour, so more often finds nothing."
  }
}
