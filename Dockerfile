# syntax=docker/dockerfile:1

# The service: docker build --build-arg VERSION=v1.2.3 -t authgear-forward-auth .
#
# The image holds one static program, CA certificates, and no shell. It runs as user
# 65532, writes nothing, and so works with a read-only file system and without
# capabilities.

# Go compiles for other machines by itself: this stage runs on the builder's own.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS source
# auto: where the image's Go is older than go.mod asks for, go fetches that one.
ENV CGO_ENABLED=0 GOTOOLCHAIN=auto
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download
COPY . .

# Nothing in the program tells when, where or in which checkout it was built: the same
# source and the same Go make the same bytes.
FROM source AS build
# nethttpomithttp2: nothing here speaks HTTP/2, which would be half a megabyte.
ARG VERSION=dev
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags nethttpomithttp2 -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /out/authgear-forward-auth .

FROM source AS build-authgear-dev
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w" -o /out/authgear-dev ./internal/authgeartest/authgear-dev

# For docker-compose.yml alone: a development Authgear, which gives tokens to all who
# ask, and an application that tells what it was handed.
FROM gcr.io/distroless/static-debian12:nonroot AS authgear-dev
COPY --from=build-authgear-dev /out/authgear-dev /usr/bin/authgear-dev
USER 65532:65532
ENTRYPOINT ["/usr/bin/authgear-dev"]

# The last stage is what is built where no other is named.
FROM gcr.io/distroless/static-debian12:nonroot AS authgear-forward-auth
ARG VERSION=dev
LABEL org.opencontainers.image.title="authgear-forward-auth" \
      org.opencontainers.image.description="Answers a reverse proxy: may this request pass, and who sent it?" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /out/authgear-forward-auth /usr/bin/authgear-forward-auth
# By number: Kubernetes cannot tell that a name is not root's.
USER 65532:65532
# The admin listener stays on the container's loopback, where the health check asks it.
EXPOSE 4180
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --start-interval=1s --retries=3 \
    CMD ["/usr/bin/authgear-forward-auth", "healthcheck"]
ENTRYPOINT ["/usr/bin/authgear-forward-auth"]
