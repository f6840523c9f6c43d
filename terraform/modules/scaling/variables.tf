variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "cluster_name" {
  description = "Name of the ECS cluster"
  type        = string
}

variable "service_name" {
  description = "Name of the ECS service"
  type        = string
}

variable "queue_name" {
  description = "Name of the queue whose depth drives the tasks"
  type        = string
}

variable "max_tasks" {
  description = "Most tasks at once, which is most GPUs at once"
  type        = number

  validation {
    condition     = var.max_tasks >= 1 && var.max_tasks <= 1000 && floor(var.max_tasks) == var.max_tasks
    error_message = "max_tasks must be a whole number from 1 to 1000."
  }
}

variable "acceptable_wait_seconds" {
  description = "How long a video may wait for its result while instances are running, s. The start of an instance comes on top"
  type        = number

  validation {
    condition     = var.acceptable_wait_seconds >= var.seconds_per_video
    error_message = "acceptable_wait_seconds must be at least seconds_per_video: no number of tasks makes one video quicker."
  }
}

variable "seconds_per_video" {
  description = "How long a busy task takes from one finished video to the next, on average, s: 3600 divided by the videos that it does in an hour"
  type        = number

  validation {
    condition     = var.seconds_per_video > 0
    error_message = "seconds_per_video must be above 0: measure it with poller_videos_finished_total."
  }
}

variable "quiet_seconds" {
  description = "The last task goes when nothing was waiting and nothing in work for so long, s"
  type        = number

  validation {
    condition     = var.quiet_seconds >= 300 && var.quiet_seconds <= 86400 && var.quiet_seconds % 60 == 0
    error_message = "quiet_seconds must be 300 to 86400 and whole minutes: an instance takes minutes to start, and CloudWatch looks back a day at most."
  }
}

variable "warm" {
  description = "When at least one task is kept although nothing waits: two cron expressions as EventBridge has them, such as { start = \"cron(0 7 ? * MON-FRI *)\", stop = \"cron(0 19 ? * MON-FRI *)\", timezone = \"Europe/Berlin\" }; without a timezone they are UTC; null: never"
  type = object({
    start    = string
    stop     = string
    timezone = optional(string, "UTC")
  })

  validation {
    condition     = var.warm == null ? true : alltrue([for time in [var.warm.start, var.warm.stop] : can(regex("^cron\\(([^ ]+ ){5}[^ ]+\\)$", time))]) && var.warm.start != var.warm.stop
    error_message = "warm.start and warm.stop must be different and of the form cron(minute hour day-of-month month day-of-week year), such as cron(0 7 ? * MON-FRI *)."
  }

  validation {
    condition     = var.warm == null ? true : can(regex("^(UTC|[A-Z][A-Za-z]+(/[A-Za-z0-9_+-]+)+)$", var.warm.timezone))
    error_message = "warm.timezone must be UTC or a name of IANA's list, such as Europe/Berlin: an abbreviation or an offset knows no summer time."
  }
}
