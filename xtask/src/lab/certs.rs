//! Certificates: one root, one certificate for every proxy (its SPIFFE identity), one for everything outside.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

/// The lab's own authority. Lives as long as one run.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    /// A new root.
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "egress lab root");
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), root })
    }

    /// Writes `cert-chain.pem`, `key.pem` and `root-cert.pem` with these names into the folder. The key is readable
    /// by everybody: the proxy's uid has to, and it ends with the run.
    pub(crate) fn write(&self, folder: &Path, names: Vec<SanType>) -> Result<()> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = names;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("cert-chain.pem"), certificate.pem())?;
        fs::write(folder.join("key.pem"), key.serialize_pem())?;
        fs::write(folder.join("root-cert.pem"), &self.root)?;
        Ok(())
    }
}

/// What istiod calls a workload.
pub(crate) fn spiffe(namespace: &str, service_account: &str) -> Result<SanType> {
    Ok(SanType::URI(format!("spiffe://cluster.local/ns/{namespace}/sa/{service_account}").try_into()?))
}

/// A DNS name.
pub(crate) fn dns(name: &str) -> Result<SanType> {
    Ok(SanType::DnsName(name.try_into()?))
}
