module nightshift.dev/e2e/pod

go 1.24.0
