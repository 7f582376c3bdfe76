"""The certificates of one cluster."""

import datetime
import hashlib
import ipaddress
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .settings import API_SERVICE_ADDRESS, LOOPBACK, NODE_ADDRESS, NODE_NAME, Settings

LIFETIME = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)


@dataclass(frozen=True)
class Identity:
    """Who a certificate speaks for.

    Attributes:
        groups: Kubernetes groups, the certificate's organisations.
        names: DNS names and addresses a server answers to.
    """

    file: str
    user: str
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


IDENTITIES = (
    Identity(
        "apiserver",
        "kube-apiserver",
        names=(
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            LOOPBACK,
            NODE_ADDRESS,
            API_SERVICE_ADDRESS,
        ),
    ),
    Identity("etcd", "etcd", names=("localhost", LOOPBACK)),
    Identity("kubelet-server", f"system:node:{NODE_NAME}", ("system:nodes",), (NODE_NAME, NODE_ADDRESS)),
    Identity("apiserver-client", "kube-apiserver", ("system:masters",)),
    Identity("admin", "nightshift-admin", ("system:masters",)),
    Identity("kubelet", f"system:node:{NODE_NAME}", ("system:nodes",)),
    Identity("kube-controller-manager", "system:kube-controller-manager"),
    Identity("kube-scheduler", "system:kube-scheduler"),
    Identity("kube-proxy", "system:kube-proxy"),
    Identity("coredns", "system:coredns"),
    Identity("kwok", "system:kwok"),
)


def plan_hash() -> str:
    """Changes when the certificates would."""
    return hashlib.sha256(json.dumps([asdict(identity) for identity in IDENTITIES]).encode()).hexdigest()


def is_current(directory: Path, now: datetime.datetime) -> bool:
    """Whether the directory holds the whole planned set and it lives for another month."""
    try:
        record = json.loads((directory / "record.json").read_text())
        expires = datetime.datetime.fromisoformat(record["expires"])
    except (OSError, ValueError, KeyError):
        return False
    return bool(record["plan"] == plan_hash() and now + RENEW_BEFORE < expires)


def ensure(settings: Settings, now: datetime.datetime) -> str:
    """Make the certificates unless a current set is there; the directory appears whole or not at all."""
    if is_current(settings.pki, now):
        return "kept"
    partial = settings.run / ".pki.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    _make(partial, now)
    shutil.rmtree(settings.pki, ignore_errors=True)
    partial.rename(settings.pki)
    return "made"


def _make(directory: Path, now: datetime.datetime) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate(Identity("ca", "nightshift-cluster"), authority_key.public_key(), None, authority_key, now)
    _write(directory, "ca", authority_key, authority)
    for identity in IDENTITIES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(identity, key.public_key(), authority, authority_key, now)
        _write(directory, identity.file, key, certificate)
    accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_private(directory / "service-accounts.key", accounts)
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (directory / "service-accounts.pub").write_bytes(public)
    record = {"plan": plan_hash(), "expires": (now + LIFETIME).isoformat()}
    (directory / "record.json").write_text(json.dumps(record))


def _certificate(
    identity: Identity,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
) -> x509.Certificate:
    subject = x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups),
            x509.NameAttribute(NameOID.COMMON_NAME, identity.user),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_key_usage(signs=issuer is None), critical=True)
    )
    if issuer is not None:
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if identity.names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in identity.names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(directory: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write_private(directory / f"{name}.key", key)
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
