# How many tasks there are: the queue's depth drives tasks, tasks drive instances.

locals {
  # What a task can have before it and still be done with it in time.
  target = var.acceptable_wait_seconds / var.seconds_per_video

  # The numbers and expressions that `poller simulate` goes by too; docs/scaling.md says why each
  # expression is as it is.
  policy = jsondecode(file("${path.module}/../../../deploy/ecs/scaling.json"))

  queue   = { QueueName = var.queue_name }
  service = { ClusterName = var.cluster_name, ServiceName = var.service_name }

  metrics = {
    visible   = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", stat = "Maximum", dimensions = local.queue }
    in_flight = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesNotVisible", stat = "Maximum", dimensions = local.queue }
    desired   = { namespace = "ECS/ContainerInsights", name = "DesiredTaskCount", stat = "Average", dimensions = local.service }
  }
}

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${var.cluster_name}/${var.service_name}"
  min_capacity       = 0
  max_capacity       = var.max_tasks

  # The schedule moves it.
  lifecycle {
    ignore_changes = [min_capacity]
  }
}

# --- between one task and the most ---

resource "aws_appautoscaling_policy" "backlog" {
  name               = "${var.name}-backlog"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = local.target
    scale_out_cooldown = local.policy.scale_out_cooldown
    scale_in_cooldown  = local.policy.scale_in_cooldown

    customized_metric_specification {
      dynamic "metrics" {
        for_each = local.metrics

        content {
          id          = metrics.key
          return_data = false

          metric_stat {
            stat = metrics.value.stat

            metric {
              namespace   = metrics.value.namespace
              metric_name = metrics.value.name

              dynamic "dimensions" {
                for_each = metrics.value.dimensions

                content {
                  name  = dimensions.key
                  value = dimensions.value
                }
              }
            }
          }
        }
      }

      metrics {
        id          = "backlog_per_task"
        label       = "messages per wanted task"
        expression  = local.policy.expressions.backlog_per_task
        return_data = true
      }
    }
  }
}

# --- from none to one: no tracking leads out of zero ---

resource "aws_appautoscaling_policy" "wake" {
  name               = "${var.name}-wake"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  step_scaling_policy_configuration {
    # One more, rather than exactly one: when the count of tasks lags, this must take none away.
    adjustment_type         = "ChangeInCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = local.policy.wake_cooldown

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = local.policy.wake_adjustment
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "wake" {
  alarm_name          = "${var.name}-wake"
  alarm_description   = "A message waits and no task is wanted: scaling starts one. No fault."
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = local.policy.wake_threshold
  # Any one of them: the count of tasks may be known later than that of messages.
  evaluation_periods  = local.policy.wake_periods
  datapoints_to_alarm = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.wake.arn]

  dynamic "metric_query" {
    for_each = local.metrics

    content {
      id          = metric_query.key
      return_data = false

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = local.policy.period_seconds
      }
    }
  }

  metric_query {
    id          = "wake"
    label       = "messages that wait while no task is wanted"
    expression  = local.policy.expressions.wake
    return_data = true
  }
}

# --- from any to none ---

resource "aws_appautoscaling_policy" "sleep" {
  name               = "${var.name}-sleep"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  step_scaling_policy_configuration {
    # The least that is allowed: none, or the one that the schedule keeps warm.
    adjustment_type         = "ExactCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = local.policy.sleep_cooldown

    step_adjustment {
      metric_interval_upper_bound = 0
      scaling_adjustment          = local.policy.sleep_capacity
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "sleep" {
  alarm_name          = "${var.name}-sleep"
  alarm_description   = "Nothing waits and nothing is in work: scaling stops the last task. No fault."
  comparison_operator = "LessThanOrEqualToThreshold"
  threshold           = local.policy.sleep_threshold
  evaluation_periods  = var.quiet_seconds / local.policy.period_seconds
  datapoints_to_alarm = var.quiet_seconds / local.policy.period_seconds
  # Metrics that lag are no proof of quiet.
  treat_missing_data = "notBreaching"
  alarm_actions      = [aws_appautoscaling_policy.sleep.arn]

  dynamic "metric_query" {
    for_each = { for id, metric in local.metrics : id => metric if id != "desired" }

    content {
      id          = metric_query.key
      return_data = false

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = local.policy.period_seconds
      }
    }
  }

  metric_query {
    id          = "quiet"
    label       = "messages that wait or are in work"
    expression  = local.policy.expressions.quiet
    return_data = true
  }
}

# --- one kept warm ---

# Without a schedule, too, the least is set to none once a day: a schedule that was taken away while
# it kept a task would have left it, and Terraform does not look at what the schedule moves.

resource "aws_appautoscaling_scheduled_action" "warm" {
  for_each = merge(
    { stop = { schedule = var.warm == null ? "cron(0 0 * * ? *)" : var.warm.stop, least = 0 } },
    var.warm == null ? {} : { start = { schedule = var.warm.start, least = 1 } },
  )

  name               = "${var.name}-warm-${each.key}"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id
  schedule           = each.value.schedule
  timezone           = var.warm == null ? "UTC" : var.warm.timezone

  scalable_target_action {
    min_capacity = each.value.least
    max_capacity = var.max_tasks
  }
}
