# What a person is told, and what a person sees.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                 = "poller-test"
  emails               = ["ops@example.com"]
  runbook              = "https://example.com/runbook"
  queue_name           = "uploads"
  dlq_name             = "uploads-dlq"
  cluster_name         = "poller-test"
  service_name         = "poller-test"
  capacity_provider    = "poller-test"
  autoscaling_group    = "poller-test"
  log_group            = "/ecs/poller-test"
  reconcile            = "poller-test-reconcile"
  depth                = 100
  age_seconds          = 21600
  retention_seconds    = 345600
  duplicates_per_video = 3
  no_progress_minutes  = 60
  capacity_minutes     = 15
}

run "alarms" {
  command = plan

  module {
    source = "./modules/alarms"
  }

  assert {
    condition = {
      for what, alarm in aws_cloudwatch_metric_alarm.this : what => [
        alarm.comparison_operator, alarm.threshold, alarm.evaluation_periods, alarm.datapoints_to_alarm,
        one(distinct([for query in alarm.metric_query : query.metric[0].period if length(query.metric) > 0])),
      ]
      } == {
      dlq         = ["GreaterThanOrEqualToThreshold", 1, 1, 1, 60]
      depth       = ["GreaterThanOrEqualToThreshold", 100, 5, 5, 60]
      age         = ["GreaterThanOrEqualToThreshold", 21600, 5, 5, 60]
      duplicates  = ["GreaterThanThreshold", 3, 1, 1, 3600]
      capacity    = ["GreaterThanThreshold", 100, 15, 15, 60]
      idle        = ["LessThanThreshold", 100, 60, 60, 60]
      no-progress = ["GreaterThanOrEqualToThreshold", 1, 12, 12, 300]
      reconcile   = ["GreaterThanOrEqualToThreshold", 1, 1, 1, 300]
    }
    error_message = "A dead letter, a deep queue, an old message, many duplicates, no capacity, idle instances, no progress, no reconcile."
  }

  assert {
    condition = {
      for what, alarm in aws_cloudwatch_metric_alarm.this : what => one([for query in alarm.metric_query : query.expression if query.return_data == true])
      } == {
      dlq         = "letters + looked_at"
      depth       = "visible + 0"
      age         = "age + 0"
      duplicates  = "IF(duplicates < 10, 0, duplicates / IF(FILL(stored, 0) < 1, 1, FILL(stored, 0)))"
      capacity    = "reservation + 0"
      idle        = "reservation + 0"
      no-progress = "IF(visible > 0 AND FILL(deleted, 0) < 1, 1, 0)"
      reconcile   = "dropped + 0"
    }
    error_message = "Each judges one expression."
  }

  assert {
    condition = toset(flatten([
      for what, alarm in aws_cloudwatch_metric_alarm.this : [
        for query in alarm.metric_query : [
          for metric in query.metric : "${what}: ${metric.namespace} ${metric.metric_name} ${join(",", values(coalesce(metric.dimensions, {})))}"
        ]
      ]
      ])) == toset([
      "dlq: AWS/SQS ApproximateNumberOfMessagesVisible uploads-dlq",
      "dlq: AWS/SQS ApproximateNumberOfMessagesNotVisible uploads-dlq",
      "depth: AWS/SQS ApproximateNumberOfMessagesVisible uploads",
      "age: AWS/SQS ApproximateAgeOfOldestMessage uploads",
      "duplicates: poller-test Duplicates ",
      "duplicates: poller-test Stored ",
      "capacity: AWS/ECS/ManagedScaling CapacityProviderReservation poller-test,poller-test",
      "idle: AWS/ECS/ManagedScaling CapacityProviderReservation poller-test,poller-test",
      "no-progress: AWS/SQS ApproximateNumberOfMessagesVisible uploads",
      "no-progress: AWS/SQS NumberOfMessagesDeleted uploads",
      "reconcile: AWS/Scheduler InvocationDroppedCount poller-test-reconcile",
    ])
    error_message = "Each looks at its own metrics."
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this :
      alarm.alarm_actions == toset([aws_sns_topic.this.arn]) && alarm.ok_actions == toset([aws_sns_topic.this.arn])
    ])
    error_message = "Each tells the topic."
  }

  assert {
    condition     = { for what, alarm in aws_cloudwatch_metric_alarm.this : what => alarm.treat_missing_data if alarm.treat_missing_data != "notBreaching" } == { dlq = "ignore" }
    error_message = "Nothing measured is no alarm; but a dead letter stays one while SQS is silent."
  }
}

run "told" {
  command = plan

  module {
    source = "./modules/alarms"
  }

  assert {
    condition = alltrue([
      for told in concat(
        [for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_description],
        [for target in [aws_cloudwatch_event_target.launch_failed, aws_cloudwatch_event_target.reconcile_failed[0]] : jsondecode(target.input_transformer[0].input_template)],
      ) : can(regex(" Runbook: https://example.com/runbook#[a-z-]+$", told))
    ])
    error_message = "Each ends with the address of its section of the runbook."
  }

  assert {
    condition     = { for email, subscription in aws_sns_topic_subscription.email : email => subscription.protocol } == { "ops@example.com" = "email" }
    error_message = "The addresses are subscribed."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_sns_topic_policy.this.policy).Statement :
      statement.Principal.Service => [statement.Effect, statement.Action, try(statement.Condition.StringEquals["aws:SourceAccount"], "any")]
      } == {
      "cloudwatch.amazonaws.com" = ["Allow", "sns:Publish", "123456789012"]
      "events.amazonaws.com"     = ["Allow", "sns:Publish", "any"]
    }
    error_message = "CloudWatch of this account and EventBridge may tell."
  }

  assert {
    condition = (
      jsondecode(aws_cloudwatch_event_rule.launch_failed.event_pattern)["detail-type"] == ["EC2 Instance Launch Unsuccessful"]
      && jsondecode(aws_cloudwatch_event_rule.launch_failed.event_pattern).detail.AutoScalingGroupName == ["poller-test"]
      && aws_cloudwatch_event_target.launch_failed.arn == aws_sns_topic.this.arn
    )
    error_message = "An instance that does not start is told of."
  }

  assert {
    condition = { for outcome, filter in aws_cloudwatch_log_metric_filter.outcomes : outcome => filter.pattern } == {
      duplicate = "{ ($.event = \"video.finished\") && ($.outcomes[0] = \"duplicate\") }"
      stored    = "{ ($.event = \"video.finished\") && ($.outcomes[0] = \"stored\") }"
    }
    error_message = "The log line that closes each message is counted by its outcome."
  }
}

run "reconcile_failed" {
  command = plan

  module {
    source = "./modules/alarms"
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.reconcile_failed[0].event_pattern) == {
      source      = ["aws.ecs"]
      detail-type = ["ECS Task State Change"]
      detail = {
        clusterArn        = [{ suffix = ":cluster/poller-test" }]
        taskDefinitionArn = [{ wildcard = "*:task-definition/poller-test-reconcile:*" }]
        group             = [{ anything-but = "operator" }]
        lastStatus        = ["STOPPED"]
        "$or" = [
          { containers = { exitCode = [{ anything-but = 0 }] } },
          { stopCode = [{ anything-but = "EssentialContainerExited" }] },
        ]
      }
    }
    error_message = "A task of the schedule that ends with another code than 0, or was never started, is told of; others and those that an operator starts are not."
  }

  assert {
    condition     = aws_cloudwatch_event_target.reconcile_failed[0].arn == aws_sns_topic.this.arn && aws_cloudwatch_event_target.reconcile_failed[0].rule == aws_cloudwatch_event_rule.reconcile_failed[0].name
    error_message = "It tells the topic."
  }
}

run "no_reconcile_to_fail" {
  command = plan

  variables {
    reconcile = null
  }

  module {
    source = "./modules/alarms"
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.reconcile_failed) + length(aws_cloudwatch_event_target.reconcile_failed) == 0 && !contains(keys(aws_cloudwatch_metric_alarm.this), "reconcile")
    error_message = "Where nothing runs it, nothing watches it."
  }
}

run "dashboard" {
  command = plan

  module {
    source = "./modules/alarms"
  }

  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets) == 6 && alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.properties.region == "eu-central-1" && widget.properties.period == 60 && length(widget.properties.metrics) >= 1])
    error_message = "Six graphs."
  }

  assert {
    condition     = length(distinct([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [widget.x, widget.y]])) == 6
    error_message = "No graph covers another."
  }
}
