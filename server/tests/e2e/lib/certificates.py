"""Certificates made with openssl: an authority, and what it signs."""

import subprocess
from pathlib import Path


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)


class Authority:
    """An authority whose files are in `folder`."""

    def __init__(self, folder: Path, name: str = "authority"):
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.pem, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        _openssl("req", "-x509", *curve, "-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.pem)

    def sign(self, name: str, *subject_alt_names: str) -> tuple[Path, Path]:
        """Certificate and key for names such as `DNS:envoy.example` or `URI:spiffe://mesh/envoy`."""
        cert, key, request = (self.folder / f"{name}.{ending}" for ending in ("pem", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(subject_alt_names)}\nbasicConstraints=CA:FALSE\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        _openssl("req", "-new", *curve, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        signed_by = ["-CA", self.pem, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions]
        _openssl("x509", "-req", "-days", "2", "-in", request, *signed_by, "-out", cert)
        return cert, key
