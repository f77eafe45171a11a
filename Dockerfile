# The webhook's image: one static program, no shell, no libraries, nobody's home.
#
#   docker build -t breakglass-webhook .
#
# glibc is linked in: with musl and its own allocator the same program takes 1.4 times the CPU for a review. The target has
# to be named, or cargo would link build scripts and procedural macros statically as well, which the latter cannot be.
FROM rust:1.95.0-slim-trixie AS build
# The image has this toolchain; the one in rust-toolchain.toml asks for formatters as well.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
# As `make static` does, so that both are the same program.
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target "$(rustc --print host-tuple)" --package webhook && \
    cp target/*-unknown-linux-gnu/release/breakglass-webhook /breakglass-webhook

FROM scratch
COPY --from=build /breakglass-webhook /breakglass-webhook
# Nobody in particular: the Deployment runs it as this user, and nothing in the image belongs to anybody else.
USER 65532:65532
ENTRYPOINT ["/breakglass-webhook"]
