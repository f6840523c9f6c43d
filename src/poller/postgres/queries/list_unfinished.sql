-- What runs, waits to be tried again, or failed; the newest first.
SELECT *
FROM latest_analyses
WHERE state IN ('processing', 'retry', 'failed')
ORDER BY state = 'failed', analysis_id DESC
LIMIT 50
