# How many tasks there are.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                    = "poller-test"
  cluster_name            = "poller-test"
  service_name            = "poller-test"
  queue_name              = "poller-test-uploads"
  max_tasks               = 4
  acceptable_wait_seconds = 600
  seconds_per_video       = 60
  quiet_seconds           = 900
  warm                    = null
}

run "bounds" {
  command = plan

  module {
    source = "./modules/scaling"
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 0 && aws_appautoscaling_target.this.max_capacity == 4 && aws_appautoscaling_target.this.resource_id == "service/poller-test/poller-test"
    error_message = "From no task to the most."
  }

  assert {
    condition     = keys(aws_appautoscaling_scheduled_action.warm) == ["stop"]
    error_message = "Nothing is kept warm unless that is asked for."
  }
}

run "tracking" {
  command = plan

  module {
    source = "./modules/scaling"
  }

  assert {
    condition     = aws_appautoscaling_policy.backlog.policy_type == "TargetTrackingScaling" && aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].target_value == 10
    error_message = "Who accepts 600 s at 60 s a video accepts ten messages per task."
  }

  assert {
    condition = toset([
      for metric in aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].metrics :
      "${metric.id}: ${try(metric.metric_stat[0].metric[0].namespace, "math")} ${try(metric.metric_stat[0].metric[0].metric_name, metric.expression)}"
      ]) == toset([
      "visible: AWS/SQS ApproximateNumberOfMessagesVisible",
      "in_flight: AWS/SQS ApproximateNumberOfMessagesNotVisible",
      "desired: ECS/ContainerInsights DesiredTaskCount",
      "backlog_per_task: math IF((visible + in_flight) < 1, 0.001, visible + in_flight) / IF(FILL(visible, -1) < 0 OR FILL(in_flight, -1) < 0 OR FILL(desired, -1) < 0, 0, IF(desired < 1, 1, desired))",
    ])
    error_message = "Tracked is what waits or is in work, for each wanted task."
  }

  assert {
    condition = [
      for metric in aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].metrics :
      metric.id if metric.return_data
    ] == ["backlog_per_task"]
    error_message = "One value is tracked."
  }
}

run "wake" {
  command = plan

  module {
    source = "./modules/scaling"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.wake.threshold == 1 && aws_cloudwatch_metric_alarm.wake.comparison_operator == "GreaterThanOrEqualToThreshold" && aws_cloudwatch_metric_alarm.wake.evaluation_periods == 3 && aws_cloudwatch_metric_alarm.wake.datapoints_to_alarm == 1
    error_message = "The first message wakes, within a minute."
  }

  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.wake.metric_query : query.expression if query.return_data == true] == ["IF(FILL(desired, 1) < 1 OR (FILL(desired, 0) < 1 AND FILL(in_flight, 0) < 1), visible, 0) / IF(FILL(visible, -1) < 0, 0, 1)"]
    error_message = "It wakes where no task is wanted, and only there."
  }

  assert {
    condition = (
      aws_appautoscaling_policy.wake.step_scaling_policy_configuration[0].adjustment_type == "ChangeInCapacity"
      && one(aws_appautoscaling_policy.wake.step_scaling_policy_configuration[0].step_adjustment).scaling_adjustment == 1
    )
    error_message = "Waking never takes tasks away."
  }

  # Bounds are counted from the alarm's threshold: above 0, one message would ring and start nothing.
  assert {
    condition = (
      one(aws_appautoscaling_policy.wake.step_scaling_policy_configuration[0].step_adjustment).metric_interval_lower_bound == "0"
      && one(aws_appautoscaling_policy.wake.step_scaling_policy_configuration[0].step_adjustment).metric_interval_upper_bound == null
    )
    error_message = "As soon as the alarm rings, however many wait."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.wake.alarm_actions == toset([aws_appautoscaling_policy.wake.arn]) && alltrue([for query in aws_cloudwatch_metric_alarm.wake.metric_query : query.metric[0].period == 60 if length(query.metric) > 0])
    error_message = "The alarm starts a task."
  }
}

run "sleep" {
  command = plan

  module {
    source = "./modules/scaling"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.sleep.threshold == 0 && aws_cloudwatch_metric_alarm.sleep.comparison_operator == "LessThanOrEqualToThreshold"
    error_message = "It sleeps with nothing to do only."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.sleep.evaluation_periods * 60 == 900 && aws_cloudwatch_metric_alarm.sleep.datapoints_to_alarm == aws_cloudwatch_metric_alarm.sleep.evaluation_periods
    error_message = "All of the quiet window must be quiet."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.sleep.treat_missing_data == "notBreaching"
    error_message = "Metrics that lag are no proof of quiet."
  }

  assert {
    condition     = [for query in aws_cloudwatch_metric_alarm.sleep.metric_query : query.expression if query.return_data == true] == ["(visible + in_flight) / IF(FILL(visible, -1) < 0 OR FILL(in_flight, -1) < 0, 0, 1)"]
    error_message = "Messages in work are work."
  }

  assert {
    condition = (
      aws_appautoscaling_policy.sleep.step_scaling_policy_configuration[0].adjustment_type == "ExactCapacity"
      && one(aws_appautoscaling_policy.sleep.step_scaling_policy_configuration[0].step_adjustment).scaling_adjustment == 0
    )
    error_message = "To no task."
  }

  assert {
    condition = (
      one(aws_appautoscaling_policy.sleep.step_scaling_policy_configuration[0].step_adjustment).metric_interval_upper_bound == "0"
      && one(aws_appautoscaling_policy.sleep.step_scaling_policy_configuration[0].step_adjustment).metric_interval_lower_bound == null
      && aws_cloudwatch_metric_alarm.sleep.alarm_actions == toset([aws_appautoscaling_policy.sleep.arn])
      && alltrue([for query in aws_cloudwatch_metric_alarm.sleep.metric_query : query.metric[0].period == 60 if length(query.metric) > 0])
    )
    error_message = "The alarm stops the last task, and only where nothing is left."
  }
}

run "warm" {
  command = plan

  variables {
    warm = { start = "cron(0 7 ? * MON-FRI *)", stop = "cron(0 19 ? * MON-FRI *)", timezone = "Europe/Berlin" }
  }

  module {
    source = "./modules/scaling"
  }

  assert {
    condition = {
      for when, action in aws_appautoscaling_scheduled_action.warm :
      when => [tonumber(action.scalable_target_action[0].min_capacity), tonumber(action.scalable_target_action[0].max_capacity), action.timezone]
    } == { start = [1, 4, "Europe/Berlin"], stop = [0, 4, "Europe/Berlin"] }
    error_message = "One task is kept between the two times, and the most stays the most."
  }
}

run "never_warm" {
  command = plan

  module {
    source = "./modules/scaling"
  }

  assert {
    condition = {
      for when, action in aws_appautoscaling_scheduled_action.warm :
      when => [action.schedule, tonumber(action.scalable_target_action[0].min_capacity), action.timezone]
    } == { stop = ["cron(0 0 * * ? *)", 0, "UTC"] }
    error_message = "What a schedule left that was taken away is put right within a day."
  }
}

run "warm_in_utc" {
  command = plan

  variables {
    warm = { start = "cron(0 7 ? * MON-FRI *)", stop = "cron(0 19 ? * MON-FRI *)" }
  }

  module {
    source = "./modules/scaling"
  }

  assert {
    condition     = toset([for action in aws_appautoscaling_scheduled_action.warm : action.timezone]) == toset(["UTC"])
    error_message = "Hours of no place are those of UTC, in the plan, too."
  }
}
