# docker buildx bake [--push]: the image for both architectures. deploy/release/release.sh sets the variables.
variable "VERSION" { default = "0.1.0" }
variable "IMAGE" { default = "ghcr.io/tollgate/tollgate" }
variable "TOLLGATE_COMMIT" { default = "" }
variable "SOURCE_DATE_EPOCH" { default = "" }
# compiled: in the image, cross-compiled on the builder's architecture. prebuilt: dist/tollgate-linux-{amd64,arm64}
variable "PROGRAM" { default = "compiled" }

group "default" { targets = ["tollgate"] }

target "tollgate" {
  context    = "."
  dockerfile = "Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = ["${IMAGE}:${VERSION}", "${IMAGE}:latest"]
  args = {
    PROGRAM           = PROGRAM
    TOLLGATE_COMMIT   = TOLLGATE_COMMIT
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
  }
  labels = {
    "org.opencontainers.image.version"  = VERSION
    "org.opencontainers.image.revision" = TOLLGATE_COMMIT
  }
  attest = ["type=provenance,mode=max", "type=sbom"]
}
