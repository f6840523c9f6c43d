output "policy" {
  description = "What scaling does, as data: for a simulation, and for tests of the expressions"
  value = {
    target             = local.target
    max_tasks          = var.max_tasks
    quiet_seconds      = var.quiet_seconds
    period_seconds     = local.period_seconds
    wake_threshold     = aws_cloudwatch_metric_alarm.wake.threshold
    wake_adjustment    = 1
    sleep_threshold    = aws_cloudwatch_metric_alarm.sleep.threshold
    sleep_capacity     = 0
    scale_out_cooldown = aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].scale_out_cooldown
    scale_in_cooldown  = aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].scale_in_cooldown
    wake_cooldown      = aws_appautoscaling_policy.wake.step_scaling_policy_configuration[0].cooldown
    expressions        = local.expressions
  }
}
