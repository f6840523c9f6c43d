# Where videos land, and the queue that says so.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

override_resource {
  target          = aws_sqs_queue.dlq
  override_during = plan
  values = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:dlq"
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/dlq"
  }
}

variables {
  name                = "poller-test"
  prefix              = "videos/"
  suffixes            = [".mov", ".mp4"]
  visibility_seconds  = 900
  wait_time_seconds   = 20
  retention_days      = 4
  dlq_retention_days  = 14
  max_receive_count   = 10
  raw_expiration_days = 30
  noncurrent_days     = 30
  is_disposable       = false
}

run "queues" {
  command = plan

  module {
    source = "./modules/intake"
  }

  assert {
    condition     = aws_sqs_queue.uploads.visibility_timeout_seconds == 900
    error_message = "The queue hides a message for 900 s."
  }

  assert {
    condition     = aws_sqs_queue.uploads.message_retention_seconds == 345600 && aws_sqs_queue.dlq.message_retention_seconds == 1209600
    error_message = "The queue keeps a message for 4 days, the dead-letter queue for 14."
  }

  assert {
    condition     = aws_sqs_queue.uploads.receive_wait_time_seconds == 20 && aws_sqs_queue.dlq.receive_wait_time_seconds == 20
    error_message = "A receive waits for 20 s."
  }

  assert {
    condition     = aws_sqs_queue.uploads.sqs_managed_sse_enabled && aws_sqs_queue.dlq.sqs_managed_sse_enabled
    error_message = "SQS encrypts both queues."
  }

  assert {
    condition     = aws_sqs_queue.uploads.fifo_queue != true && aws_sqs_queue.dlq.fifo_queue != true
    error_message = "FIFO queues are not supported by the service."
  }

  assert {
    condition = (
      jsondecode(aws_sqs_queue.uploads.redrive_policy).deadLetterTargetArn == aws_sqs_queue.dlq.arn
      && jsondecode(aws_sqs_queue.uploads.redrive_policy).maxReceiveCount == 10
    )
    error_message = "After ten deliveries SQS moves a message to the dead-letter queue."
  }

  assert {
    condition = (
      jsondecode(aws_sqs_queue_redrive_allow_policy.dlq.redrive_allow_policy).redrivePermission == "byQueue"
      && jsondecode(aws_sqs_queue_redrive_allow_policy.dlq.redrive_allow_policy).sourceQueueArns[0] == aws_sqs_queue.uploads.arn
      && length(jsondecode(aws_sqs_queue_redrive_allow_policy.dlq.redrive_allow_policy).sourceQueueArns) == 1
      && aws_sqs_queue_redrive_allow_policy.dlq.queue_url == aws_sqs_queue.dlq.url
    )
    error_message = "The dead-letter queue takes messages from this queue only."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_sqs_queue_policy.uploads.policy).Statement : statement
      if statement.Effect == "Allow"
      ] == [{
        Sid       = "AnnounceUploads"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.uploads.arn
        Condition = {
          ArnEquals    = { "aws:SourceArn" = aws_s3_bucket.this["raw"].arn }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
    }]
    error_message = "Only S3, for the raw bucket of this account, may send to the queue by its policy."
  }

  assert {
    condition = alltrue([
      for policy in [aws_sqs_queue_policy.uploads.policy, aws_sqs_queue_policy.dlq.policy] :
      contains([for statement in jsondecode(policy).Statement : "${statement.Effect} ${statement.Action} ${jsonencode(statement.Condition)}"],
      "Deny sqs:* ${jsonencode({ Bool = { "aws:SecureTransport" = "false" } })}")
    ])
    error_message = "Both queues refuse what does not come over TLS."
  }
}

run "buckets" {
  command = plan

  module {
    source = "./modules/intake"
  }

  assert {
    condition     = aws_s3_bucket.this["raw"].bucket == "poller-test-raw-123456789012" && aws_s3_bucket.this["results"].bucket == "poller-test-results-123456789012"
    error_message = "There are two buckets, named after the environment and the account."
  }

  assert {
    condition = alltrue([
      for block in aws_s3_bucket_public_access_block.this :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ]) && length(aws_s3_bucket_public_access_block.this) == 2
    error_message = "Neither bucket can be made public."
  }

  assert {
    condition     = alltrue([for control in aws_s3_bucket_ownership_controls.this : control.rule[0].object_ownership == "BucketOwnerEnforced"])
    error_message = "What is uploaded belongs to the bucket's owner."
  }

  assert {
    condition     = alltrue([for versioning in aws_s3_bucket_versioning.this : versioning.versioning_configuration[0].status == "Enabled"]) && length(aws_s3_bucket_versioning.this) == 2
    error_message = "Both buckets keep versions: a revision is the version id."
  }

  assert {
    condition = alltrue([
      for encryption in aws_s3_bucket_server_side_encryption_configuration.this :
      one(encryption.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "AES256"
    ]) && length(aws_s3_bucket_server_side_encryption_configuration.this) == 2
    error_message = "Both buckets are encrypted."
  }

  assert {
    condition = alltrue([
      for policy in aws_s3_bucket_policy.this :
      jsondecode(policy.policy).Statement[0].Effect == "Deny"
      && jsondecode(policy.policy).Statement[0].Action == "s3:*"
      && jsondecode(policy.policy).Statement[0].Principal == "*"
      && jsondecode(policy.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    ]) && length(aws_s3_bucket_policy.this) == 2
    error_message = "Both buckets refuse what does not come over TLS."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.this["raw"].rule : rule.id] == ["leftovers", "uploads"] && aws_s3_bucket_lifecycle_configuration.this["raw"].rule[1].expiration[0].days == 30 && aws_s3_bucket_lifecycle_configuration.this["raw"].rule[1].filter[0].prefix == "videos/"
    error_message = "Uploads, and nothing beside them, go after raw_expiration_days."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.this["results"].rule : rule.id] == ["leftovers"]
    error_message = "Results stay."
  }

  assert {
    condition = alltrue([
      for configuration in aws_s3_bucket_lifecycle_configuration.this :
      configuration.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 7
      && configuration.rule[0].noncurrent_version_expiration[0].noncurrent_days == 30
      && configuration.rule[0].expiration[0].expired_object_delete_marker
    ])
    error_message = "What nobody reads any more goes."
  }

  assert {
    condition     = !aws_s3_bucket.this["raw"].force_destroy
    error_message = "Only a disposable environment is destroyed with its videos."
  }
}

run "uploads_are_announced" {
  command = plan

  module {
    source = "./modules/intake"
  }

  assert {
    condition     = toset([for queue in aws_s3_bucket_notification.raw.queue : queue.filter_suffix]) == toset([".MOV", ".MP4", ".mov", ".mp4"])
    error_message = "Each suffix is announced in lower and in upper case."
  }

  assert {
    condition = alltrue([
      for queue in aws_s3_bucket_notification.raw.queue :
      queue.events == toset(["s3:ObjectCreated:*"]) && queue.filter_prefix == "videos/" && queue.queue_arn == aws_sqs_queue.uploads.arn
    ])
    error_message = "Every creation under the prefix goes to the queue."
  }

  assert {
    condition = {
      for statement in jsondecode(output.uploader_policy).Statement : statement.Sid => [statement.Action, statement.Resource]
      } == {
      Upload   = [["s3:AbortMultipartUpload", "s3:PutObject"], "${aws_s3_bucket.this["raw"].arn}/videos/*"]
      Announce = ["sqs:SendMessage", aws_sqs_queue.uploads.arn]
    }
    error_message = "The uploader may put to the prefix and send to the queue, and nothing else."
  }

  assert {
    condition = {
      for statement in jsondecode(output.reader_policy).Statement : statement.Sid => [statement.Action, statement.Resource]
      } == {
      Read = ["s3:GetObject", "${aws_s3_bucket.this["results"].arn}/analyses/*"]
    }
    error_message = "Who shows results may get them, and nothing else."
  }
}

run "endings_without_case" {
  command = plan

  variables {
    suffixes = [".264", ".mp4"]
  }

  module {
    source = "./modules/intake"
  }

  assert {
    condition     = sort([for queue in aws_s3_bucket_notification.raw.queue : queue.filter_suffix]) == tolist([".264", ".MP4", ".mp4"])
    error_message = "Digits are announced once."
  }
}
