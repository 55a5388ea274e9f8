# The image of manager and agent: one static binary and nothing else. The same commit and version give
# the same bytes (-trimpath, no build ID, no VCS stamp), and make image a manifest of the same digest.
ARG GO_IMAGE=golang:1.26
FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
# A default would win over what BuildKit knows of the platform, and every image would be of one machine.
ARG TARGETOS TARGETARCH
ARG VERSION=development
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY *.go ./
COPY api api
COPY controllers controllers
COPY internal internal
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -buildid= -X main.version=$VERSION" -o /out/servicegroup .

FROM scratch
COPY --from=build /out/servicegroup /servicegroup
# The manager's; the agent's pod says root, because Kubernetes gives CAP_NET_ADMIN to nobody else.
USER 65532:65532
ENTRYPOINT ["/servicegroup"]
