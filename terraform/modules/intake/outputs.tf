output "raw_bucket" {
  description = "Bucket that videos are uploaded to: name and ARN"
  value       = { name = aws_s3_bucket.this["raw"].id, arn = aws_s3_bucket.this["raw"].arn }
}

output "results_bucket" {
  description = "Bucket for result files: name and ARN"
  value       = { name = aws_s3_bucket.this["results"].id, arn = aws_s3_bucket.this["results"].arn }
}

output "queue" {
  description = "Queue that announces uploads: name, URL, ARN, and for how long it hides a message, s"
  value = {
    name               = aws_sqs_queue.uploads.name
    url                = aws_sqs_queue.uploads.url
    arn                = aws_sqs_queue.uploads.arn
    visibility_seconds = aws_sqs_queue.uploads.visibility_timeout_seconds
  }

  # Who reads it shall find it working.
  depends_on = [aws_sqs_queue_redrive_allow_policy.dlq, aws_s3_bucket_notification.raw]
}

output "dlq" {
  description = "Dead-letter queue: name, URL, ARN"
  value       = { name = aws_sqs_queue.dlq.name, url = aws_sqs_queue.dlq.url, arn = aws_sqs_queue.dlq.arn }
}

output "reader_policy" {
  description = "IAM policy, as JSON, for the application that shows results: get their pictures and files"
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "${aws_s3_bucket.this["results"].arn}/analyses/*"
      },
    ]
  })
}

output "uploader_policy" {
  description = "IAM policy, as JSON, for the application that uploads: put to the prefix, send to the queue"
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Upload"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:PutObject"]
        Resource = "${aws_s3_bucket.this["raw"].arn}/${var.prefix}*"
      },
      {
        Sid      = "Announce"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.uploads.arn
      },
    ]
  })
}
