variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "emails" {
  description = "Addresses that are told; each must confirm once. Others subscribe to the topic"
  type        = set(string)

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", email))])
    error_message = "emails must be e-mail addresses."
  }
}

variable "runbook" {
  description = "Address under which those who are told read docs/runbook.md"
  type        = string

  validation {
    condition     = can(regex("^[^\\s\"<>\\\\#]{1,512}$", var.runbook))
    error_message = "runbook must be an address without spaces, quotes, angle brackets or a part after #: each alarm adds the name of its section."
  }
}

variable "queue_name" {
  description = "Name of the queue that announces uploads"
  type        = string
}

variable "dlq_name" {
  description = "Name of the dead-letter queue"
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

variable "capacity_provider" {
  description = "Name of the capacity provider"
  type        = string
}

variable "autoscaling_group" {
  description = "Name of the group of instances"
  type        = string
}

variable "log_group" {
  description = "Name of the service's log group"
  type        = string
}

variable "reconcile" {
  description = "Name of what runs `poller reconcile` on a schedule, family of its tasks and group of its schedule; null: nothing does"
  type        = string
  default     = null
}

variable "depth" {
  description = "Messages that wait, from which on it is too many"
  type        = number

  validation {
    condition     = var.depth >= 1
    error_message = "depth must be at least 1."
  }
}

variable "age_seconds" {
  description = "Age of the oldest message from which on it is too old, s"
  type        = number

  validation {
    condition     = var.age_seconds >= 60 && var.age_seconds < var.retention_seconds
    error_message = "age_seconds must be 60 or more and below the queue's retention: after that the message is lost."
  }
}

variable "retention_seconds" {
  description = "How long the queue keeps a message, s"
  type        = number
}

variable "duplicates_per_video" {
  description = "Duplicates for each analysed video, from which on it is too many. One is usual where S3 and the application both announce an upload"
  type        = number

  validation {
    condition     = var.duplicates_per_video >= 1
    error_message = "duplicates_per_video must be at least 1: below that, uploads that are announced twice would raise it."
  }
}

variable "no_progress_minutes" {
  description = "Messages wait and none was finished for so long, minutes; at least as long as the longest video plays"
  type        = number

  validation {
    condition     = var.no_progress_minutes >= 15 && var.no_progress_minutes <= 1440 && var.no_progress_minutes % 5 == 0
    error_message = "no_progress_minutes must be 15 to 1440, in steps of 5: starting an instance takes minutes by itself."
  }
}

variable "capacity_minutes" {
  description = "Tasks wait for an instance for so long, minutes"
  type        = number

  validation {
    condition     = var.capacity_minutes >= 10 && var.capacity_minutes <= 1440 && floor(var.capacity_minutes) == var.capacity_minutes
    error_message = "capacity_minutes must be a whole number from 10 to 1440: starting an instance takes minutes by itself."
  }
}
