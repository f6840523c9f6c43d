output "policy" {
  description = "What scaling does, as data: `poller simulate --policy` reads it, and so do tests"
  value = merge(local.policy, {
    target                  = local.target
    max_tasks               = var.max_tasks
    acceptable_wait_seconds = var.acceptable_wait_seconds
    seconds_per_video       = var.seconds_per_video
    quiet_seconds           = var.quiet_seconds
  })
}
