# plumb, and the programs it starts: git, and helm and kubectl for charts and kustomizations.
FROM docker.io/alpine/helm:4.3.1 AS helm
FROM registry.k8s.io/kubectl:v1.36.3 AS kubectl

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# Both caches are this image's own, for one build at a time: cargo's lock on the registry is not in it. The sources are made newer than
# what was compiled before, since a context may have times that never change.
RUN --mount=type=cache,id=plumb-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=plumb,target=/src/target,sharing=locked \
    find src Cargo.toml -exec touch {} + && \
    cargo build --locked --release && cp target/release/plumb /plumb

FROM docker.io/library/debian:bookworm-slim
# What plumb uses of git needs no perl, which is larger than git, nor the programs that serve others. ssh refuses to run as a user
# without a name.
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates git openssh-client && \
    dpkg --purge --force-depends git-man liberror-perl libperl5.36 perl perl-modules-5.36 && \
    useradd --uid 65532 --user-group --home-dir /home/plumb --shell /usr/sbin/nologin plumb && \
    cd /usr/lib/git-core && \
    rm git-daemon git-http-backend git-http-push git-imap-send git-sh-i18n--envsubst git-shell scalar && \
    rm -rf /usr/bin/git-shell /usr/bin/scalar /var/lib/apt/lists/*
COPY --from=helm /usr/bin/helm /usr/local/bin/
COPY --from=kubectl /bin/kubectl /usr/local/bin/
COPY --from=build /plumb /usr/local/bin/
USER 65532:65532
ENV HOME=/home/plumb
ENTRYPOINT ["plumb"]
