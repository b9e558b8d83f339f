# Shorthands; everything works without `just`.

# What `cargo` can mend by itself.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# The gate.
ci:
    .ci/run

# Load beside its baselines.
bench *ARGS:
    cargo bench -p quorate-server --bench bench -- {{ARGS}}

# The image and the compose file with a real engine.
deploy:
    deploy/check.sh
