//! The certificate files, read and checked while the configuration is.

use std::fmt;
use std::fs;
use std::io;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::server::certificate::{IdentityError, certified_key};

/// What the certificate files hold, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The bundle that master certificates are verified with; without it they are not.
    pub ca: Option<Vec<u8>>,
    /// The client certificate chain, followed by its key.
    pub identity: Option<Vec<u8>>,
}

/// Says only what there is: the identity holds a key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// An I/O error in the words of Go: `open /x: no such file or directory`.
pub(super) fn open_error(path: &str, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => return format!("read {path}: is a directory"),
        _ => error.to_string(),
    };
    format!("open {path}: {why}")
}

/// Reads the bundle of certificate authorities.
pub(super) fn read_ca(path: &str) -> Result<Vec<u8>, String> {
    let pem = fs::read(path)
        .map_err(|error| format!("CACertFile open failed: {}", open_error(path, &error)))?;
    let usable = CertificateDer::pem_slice_iter(&pem)
        .filter_map(Result::ok)
        .any(|certificate| rustls::RootCertStore::empty().add(certificate).is_ok());
    if usable {
        Ok(pem)
    } else {
        Err("CACertFile parsing failed: <nil>".into())
    }
}

/// Reads a certificate and its key, and makes sure that they belong together.
pub(super) fn read_identity(certificate: &str, key: &str) -> Result<Vec<u8>, IdentityError> {
    let read = |path: &str| fs::read(path).map_err(|error| open_error(path, &error));
    let mut pem = read(certificate).map_err(IdentityError::Certificate)?;
    let key_pem = read(key).map_err(IdentityError::Key)?;
    certified_key((certificate, &pem), (key, &key_pem))?;
    pem.push(b'\n');
    pem.extend_from_slice(&key_pem);
    Ok(pem)
}
