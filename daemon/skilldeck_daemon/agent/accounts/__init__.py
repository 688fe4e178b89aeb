"""What is counted of runs and of the daemon, without a word of their texts: accounts, metrics, traces, stalls."""
