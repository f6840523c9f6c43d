output "stack" {
  description = "What others need to know of the environment: names, URLs and ARNs"
  value       = module.stack
}
