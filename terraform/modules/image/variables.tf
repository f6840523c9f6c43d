variable "name" {
  description = "Name of the repository"
  type        = string
}

variable "kept_images" {
  description = "How many of the newest images are kept, for a roll-back"
  type        = number

  validation {
    condition     = var.kept_images >= 2 && floor(var.kept_images) == var.kept_images
    error_message = "kept_images must be a whole number of at least 2: a roll-back needs the image before."
  }
}

variable "is_disposable" {
  description = "Whether destroying the environment also deletes its images"
  type        = bool
}
