"""What networks learn from: functions of predicted flows, truths and images."""
