# What a person is told, and what a person sees.

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  region  = data.aws_region.current.name

  queue = { QueueName = var.queue_name }
  dlq   = { QueueName = var.dlq_name }

  metrics = {
    visible   = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", stat = "Maximum", dimensions = local.queue }
    in_flight = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesNotVisible", stat = "Maximum", dimensions = local.queue }
    deleted   = { namespace = "AWS/SQS", name = "NumberOfMessagesDeleted", stat = "Sum", dimensions = local.queue }
    age       = { namespace = "AWS/SQS", name = "ApproximateAgeOfOldestMessage", stat = "Maximum", dimensions = local.queue }
    letters   = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", stat = "Maximum", dimensions = local.dlq }
    # `poller redrive` hides letters while it looks at them.
    looked_at  = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesNotVisible", stat = "Maximum", dimensions = local.dlq }
    duplicates = { namespace = var.name, name = local.outcomes.duplicate, stat = "Sum", dimensions = {} }
    stored     = { namespace = var.name, name = local.outcomes.stored, stat = "Sum", dimensions = {} }
    # Above 100: tasks want more instances than there are; below: there are more than they want.
    reservation = {
      namespace  = "AWS/ECS/ManagedScaling", name = "CapacityProviderReservation", stat = "Maximum",
      dimensions = { ClusterName = var.cluster_name, CapacityProviderName = var.capacity_provider }
    }
    dropped = { namespace = "AWS/Scheduler", name = "InvocationDroppedCount", stat = "Sum", dimensions = { ScheduleGroup = coalesce(var.reconcile, "none") } }
  }

  # How the log line `video.finished` calls what became of a video, and what we call its count.
  outcomes = { duplicate = "Duplicates", stored = "Stored" }

  watched = {
    dlq = {
      description = "A message is in the dead-letter queue. Runbook: ${var.runbook}#the-dlq-is-not-empty"
      uses        = ["letters", "looked_at"], expression = "letters + looked_at"
      operator    = "GreaterThanOrEqualToThreshold", threshold = 1, period = 60, periods = 1
      # SQS says nothing of a queue that nobody touches for hours, and the letter lies there still.
      missing = "ignore"
    }
    depth = {
      description = "Many messages wait. Runbook: ${var.runbook}#the-queue-is-deep"
      uses        = ["visible"], expression = "visible + 0"
      operator    = "GreaterThanOrEqualToThreshold", threshold = var.depth, period = 60, periods = 5
    }
    age = {
      description = "The oldest message is too old. Runbook: ${var.runbook}#messages-are-old"
      uses        = ["age"], expression = "age + 0"
      operator    = "GreaterThanOrEqualToThreshold", threshold = var.age_seconds, period = 60, periods = 5
    }
    duplicates = {
      description = "Videos are announced far more often than analysed. Runbook: ${var.runbook}#many-duplicates"
      uses        = ["duplicates", "stored"], expression = "IF(duplicates < 10, 0, duplicates / IF(FILL(stored, 0) < 1, 1, FILL(stored, 0)))"
      operator    = "GreaterThanThreshold", threshold = var.duplicates_per_video, period = 3600, periods = 1
    }
    capacity = {
      description = "Tasks have waited for GPU instances for longer than these take to start: none is to be had in these zones and types, or a quota is used up. Runbook: ${var.runbook}#tasks-are-pending"
      uses        = ["reservation"], expression = "reservation + 0"
      operator    = "GreaterThanThreshold", threshold = 100, period = 60, periods = var.capacity_minutes
    }
    # ECS lets go of an instance without a task after a quarter of an hour. One that it does not know
    # is protected from everybody else, too, and would be paid for without an end.
    idle = {
      description = "There have been more GPU instances than tasks for an hour, and each is paid for. Runbook: ${var.runbook}#instances-are-idle"
      uses        = ["reservation"], expression = "reservation + 0"
      operator    = "LessThanThreshold", threshold = 100, period = 60, periods = 60
    }
    no-progress = {
      description = "Messages wait and none is finished. Runbook: ${var.runbook}#no-progress"
      uses        = ["visible", "deleted"], expression = "IF(visible > 0 AND FILL(deleted, 0) < 1, 1, 0)"
      operator    = "GreaterThanOrEqualToThreshold", threshold = 1, period = 300, periods = var.no_progress_minutes / 5
    }
    reconcile = {
      description = "The scheduler could not start poller reconcile, and gave up until the next time. Runbook: ${var.runbook}#reconcile-failed"
      uses        = ["dropped"], expression = "dropped + 0"
      operator    = "GreaterThanOrEqualToThreshold", threshold = 1, period = 300, periods = 1
    }
  }

  alarms = { for what, alarm in local.watched : what => alarm if what != "reconcile" || var.reconcile != null }
}

# --- who is told ---

resource "aws_sns_topic" "this" {
  #checkov:skip=CKV_AWS_26: CloudWatch may not use the key that AWS manages for SNS, and an alarm names no data
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_policy" "this" {
  arn = aws_sns_topic.this.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.this.arn
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
      {
        # EventBridge supports no conditions in a topic's policy: with one, it would tell nobody.
        Sid       = "Events"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.this.arn
      },
    ]
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each  = var.emails
  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.value
}

# --- what from the log ---

resource "aws_cloudwatch_log_metric_filter" "outcomes" {
  for_each       = local.outcomes
  name           = "${var.name}-${each.key}"
  log_group_name = var.log_group
  pattern        = "{ ($.event = \"video.finished\") && ($.outcomes[0] = \"${each.key}\") }"

  metric_transformation {
    namespace     = var.name
    name          = each.value
    value         = "1"
    default_value = "0"
  }
}

# --- of what ---

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = each.value.operator
  threshold           = each.value.threshold
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.periods
  # Nothing is measured where nothing happens.
  treat_missing_data = try(each.value.missing, "notBreaching")
  alarm_actions      = [aws_sns_topic.this.arn]
  ok_actions         = [aws_sns_topic.this.arn]

  dynamic "metric_query" {
    for_each = toset(each.value.uses)

    content {
      id          = metric_query.value
      return_data = false

      metric {
        namespace   = local.metrics[metric_query.value].namespace
        metric_name = local.metrics[metric_query.value].name
        dimensions  = local.metrics[metric_query.value].dimensions
        stat        = local.metrics[metric_query.value].stat
        period      = each.value.period
      }
    }
  }

  metric_query {
    id          = "judged"
    label       = each.key
    expression  = each.value.expression
    return_data = true
  }
}

resource "aws_cloudwatch_event_rule" "launch_failed" {
  name        = "${var.name}-launch-failed"
  description = "An instance did not start"

  event_pattern = jsonencode({
    source      = ["aws.autoscaling"]
    detail-type = ["EC2 Instance Launch Unsuccessful"]
    detail      = { AutoScalingGroupName = [var.autoscaling_group] }
  })
}

resource "aws_cloudwatch_event_target" "launch_failed" {
  rule = aws_cloudwatch_event_rule.launch_failed.name
  arn  = aws_sns_topic.this.arn

  input_transformer {
    input_paths    = { cause = "$.detail.StatusMessage", group = "$.detail.AutoScalingGroupName" }
    input_template = "\"An instance of <group> did not start: <cause> Runbook: ${var.runbook}#tasks-are-pending\""
  }

  depends_on = [aws_sns_topic_policy.this]
}

# Nothing waits for what it does, so nobody would miss it.
resource "aws_cloudwatch_event_rule" "reconcile_failed" {
  count       = var.reconcile == null ? 0 : 1
  name        = "${var.name}-reconcile-failed"
  description = "poller reconcile did not start, or did not end well"

  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn        = [{ suffix = ":cluster/${var.cluster_name}" }]
      taskDefinitionArn = [{ wildcard = "*:task-definition/${var.reconcile}:*" }]
      # Who starts it by `run_command` looks at the end of it anyway.
      group      = [{ anything-but = "operator" }]
      lastStatus = ["STOPPED"]
      # A container that was never started has no exit code at all.
      "$or" = [
        { containers = { exitCode = [{ anything-but = 0 }] } },
        { stopCode = [{ anything-but = "EssentialContainerExited" }] },
      ]
    }
  })
}

resource "aws_cloudwatch_event_target" "reconcile_failed" {
  count = var.reconcile == null ? 0 : 1
  rule  = aws_cloudwatch_event_rule.reconcile_failed[0].name
  arn   = aws_sns_topic.this.arn

  input_transformer {
    input_paths    = { why = "$.detail.stoppedReason", task = "$.detail.taskArn" }
    input_template = "\"poller reconcile did not end well: <why> (<task>) Runbook: ${var.runbook}#reconcile-failed\""
  }

  depends_on = [aws_sns_topic_policy.this]
}

# --- at a glance ---

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = [
      for index, widget in [
        {
          title = "Queue", metrics = [
            ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue_name, { label = "waiting", stat = "Maximum" }],
            ["AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", var.queue_name, { label = "in work", stat = "Maximum" }],
            ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.dlq_name, { label = "dead letters", stat = "Maximum" }],
          ]
        },
        {
          title = "Oldest message, s", metrics = [
            ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", var.queue_name, { label = "age", stat = "Maximum" }],
          ]
        },
        {
          title = "Finished and announced again, per 5 minutes", metrics = [
            [var.name, local.outcomes.stored, { label = "stored", stat = "Sum", period = 300 }],
            [var.name, local.outcomes.duplicate, { label = "duplicates", stat = "Sum", period = 300 }],
          ]
        },
        {
          title = "Tasks", metrics = [
            ["ECS/ContainerInsights", "DesiredTaskCount", "ClusterName", var.cluster_name, "ServiceName", var.service_name, { label = "wanted" }],
            ["ECS/ContainerInsights", "RunningTaskCount", "ClusterName", var.cluster_name, "ServiceName", var.service_name, { label = "running" }],
            ["ECS/ContainerInsights", "PendingTaskCount", "ClusterName", var.cluster_name, "ServiceName", var.service_name, { label = "pending" }],
          ]
        },
        {
          title = "Instances wanted by tasks, % of those there are", metrics = [
            ["AWS/ECS/ManagedScaling", "CapacityProviderReservation", "ClusterName", var.cluster_name, "CapacityProviderName", var.capacity_provider, { label = "reservation" }],
          ]
        },
        {
          title = "CPU and memory of the tasks, %", metrics = [
            ["AWS/ECS", "CPUUtilization", "ClusterName", var.cluster_name, "ServiceName", var.service_name, { label = "CPU" }],
            ["AWS/ECS", "MemoryUtilization", "ClusterName", var.cluster_name, "ServiceName", var.service_name, { label = "memory" }],
          ]
        },
        ] : {
        type   = "metric"
        x      = index % 2 * 12
        y      = floor(index / 2) * 6
        width  = 12
        height = 6
        properties = {
          title   = widget.title
          region  = local.region
          view    = "timeSeries"
          stat    = "Average"
          period  = 60
          metrics = widget.metrics
        }
      }
    ]
  })
}
