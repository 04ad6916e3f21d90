//! What a fresh machine needs to start: a certificate for localhost, a signing secret and a signing key, all marked as worthless.
//!
//! Owns how they are made, marked and renewed. Refuses to overwrite anything that doesn't carry the mark, and to know
//! when development is meant: the caller asks for it, and refuses marked files in earnest (`tls::is_development`,
//! `is_development_secret`, `is_development_key`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs::default_provider;

use super::CertificateSource;
use super::certificate::{Certificate, DEVELOPMENT_MARK, is_development};

/// How long a development certificate is valid.
const VALIDITY: Duration = Duration::from_hours(90 * 24);
/// How much of that may be left before another one is made.
const RENEWAL: Duration = Duration::from_hours(7 * 24);
/// Clocks of containers and their hosts differ.
const CLOCK_SKEW: Duration = Duration::from_hours(1);
/// The names a development certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// First line of a development key. PEM readers skip what stands before the BEGIN line (RFC 7468 section 2).
const KEY_MARK: &str = "Portcullis development key - do not trust\n";
/// End of a development secret.
const SECRET_MARK: &str = "-portcullis-development-secret-do-not-trust";

/// Where the development files belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The certificate, PEM, mode 0644.
    pub certificate: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub key: PathBuf,
    /// The HMAC secret: 64 hexadecimal digits and the mark, no line end, mode 0600.
    pub secret: PathBuf,
    /// The Ed25519 key of identity tokens, PKCS#8 in PEM, mode 0600.
    pub identity: PathBuf,
}

impl Paths {
    /// The usual names in one directory: `dev.crt`, `dev.key`, `dev.secret` and `dev.identity`.
    pub fn within(directory: &Path) -> Self {
        let path = |name| directory.join(name);
        Self {
            certificate: path("dev.crt"),
            key: path("dev.key"),
            secret: path("dev.secret"),
            identity: path("dev.identity"),
        }
    }
}

/// What `prepare` had to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// A certificate and its key.
    pub certificate: bool,
    /// A secret.
    pub secret: bool,
    /// A key for identity tokens.
    pub identity: bool,
}

/// Makes what is missing. A development certificate that is expired or within a week of it, or that has
/// lost its key, is made anew.
///
/// What is there without the mark is left as it is and counts as not made.
///
/// # Errors
/// `AlreadyExists` when the certificate must be made and a key without the mark is in the way; otherwise what the file
/// system says, with the path. Files appear whole or not at all. Two processes that start at once may each make a
/// certificate; the pair that doesn't match is repaired by the next start.
pub fn prepare(paths: &Paths) -> io::Result<Made> {
    prepare_at(paths, SystemTime::now())
}

/// Whether this is a development secret. A line end after it doesn't matter.
pub fn is_development_secret(secret: &[u8]) -> bool {
    secret.trim_ascii_end().ends_with(SECRET_MARK.as_bytes())
}

/// Whether this private key is a development key.
pub fn is_development_key(pem: &[u8]) -> bool {
    pem.starts_with(KEY_MARK.as_bytes())
}

fn prepare_at(paths: &Paths, now: SystemTime) -> io::Result<Made> {
    Ok(Made {
        certificate: prepare_certificate(paths, now)?,
        secret: prepare_secret(&paths.secret)?,
        identity: prepare_identity(&paths.identity)?,
    })
}

fn prepare_certificate(paths: &Paths, now: SystemTime) -> io::Result<bool> {
    let (chain, key) = (read(&paths.certificate)?, read(&paths.key)?);
    if let Some(chain) = &chain
        && (!is_development(chain) || key.as_ref().is_some_and(|key| lasts(chain, key, now + RENEWAL)))
    {
        return Ok(false);
    }
    if key.is_some_and(|key| !is_development_key(&key)) {
        let message = format!("{} is no development key and is not overwritten", paths.key.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let (chain, key) = make_certificate(now).map_err(io::Error::other)?;
    // The key first: without a certificate it is remade at the next start, and so is a certificate without its key.
    write(&paths.key, &format!("{KEY_MARK}{key}"), 0o600)?;
    write(&paths.certificate, &chain, 0o644)?;
    Ok(true)
}

fn prepare_secret(path: &Path) -> io::Result<bool> {
    if read(path)?.is_some() {
        return Ok(false);
    }
    let (high, low) = (u128::from_ne_bytes(random()?), u128::from_ne_bytes(random()?));
    write(path, &format!("{high:032x}{low:032x}{SECRET_MARK}"), 0o600)?;
    Ok(true)
}

fn prepare_identity(path: &Path) -> io::Result<bool> {
    if read(path)?.is_some() {
        return Ok(false);
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(io::Error::other)?;
    write(path, &format!("{KEY_MARK}{}", key.serialize_pem()), 0o600)?;
    Ok(true)
}

/// Whether the pair matches and is still valid at `then`.
fn lasts(chain: &[u8], key: &[u8], then: SystemTime) -> bool {
    let source = CertificateSource { chain_pem: chain.to_vec(), key_pem: key.to_vec(), label: String::new() };
    Certificate::load(&source, &default_provider(), then).is_ok()
}

/// A self-signed certificate and its key, both PEM.
fn make_certificate(now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(NAMES.map(String::from))?;
    params.distinguished_name.push(DnType::CommonName, NAMES[0]);
    params.distinguished_name.push(DnType::OrganizationName, DEVELOPMENT_MARK);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + VALIDITY).into();
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path, &error)),
    }
}

/// Puts `text` at `path` in one step, so that nobody reads half of it.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let result = parent(path).and_then(|()| {
        let draft = draft_path(path)?;
        let written = write_new(&draft, text, mode).and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            // The first failure is the one worth telling; the draft is harmless.
            drop(fs::remove_file(&draft));
        }
        written
    });
    result.map_err(|error| at(path, &error))
}

fn parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => fs::create_dir_all(directory),
        _ => Ok(()),
    }
}

/// A name of its own beside `path`, so that renaming stays within one file system.
fn draft_path(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}", u64::from_ne_bytes(random()?)));
    Ok(name.into())
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::testing::{self, DAY};
    use super::super::{Acceptor, MinVersion, TlsSettings, UnknownName};
    use super::*;

    const ALL: Made = Made { certificate: true, secret: true, identity: true };
    const NONE: Made = Made { certificate: false, secret: false, identity: false };
    const CERTIFICATE: Made = Made { certificate: true, ..NONE };

    fn fresh() -> (tempfile::TempDir, Paths) {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::within(&directory.path().join("certs"));
        (directory, paths)
    }

    #[test]
    fn a_fresh_machine_gets_a_marked_certificate_that_serves() {
        let (_directory, paths) = fresh();
        assert_eq!(prepare(&paths).unwrap(), ALL);
        let source = CertificateSource {
            chain_pem: fs::read(&paths.certificate).unwrap(),
            key_pem: fs::read(&paths.key).unwrap(),
            label: "dev.crt".to_owned(),
        };
        assert!(is_development(&source.chain_pem));
        let (_, infos) = Acceptor::compile(&TlsSettings {
            certificates: vec![source],
            unknown_name: UnknownName::Default,
            min_version: MinVersion::Tls12,
            http2: true,
            http3: false,
            handshake_timeout: Duration::from_secs(10),
            client_ca: None,
        })
        .unwrap();
        assert!(infos[0].development);
        assert_eq!(infos[0].names.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), NAMES);
    }

    #[test]
    fn the_secret_is_random_marked_and_usable_as_it_stands() {
        let (_directory, paths) = fresh();
        let (_other, others) = fresh();
        prepare(&paths).unwrap();
        prepare(&others).unwrap();
        let secret = fs::read_to_string(&paths.secret).unwrap();
        assert_ne!(secret, fs::read_to_string(&others.secret).unwrap());
        let digits = secret.strip_suffix(SECRET_MARK).unwrap();
        assert_eq!(digits.len(), 64);
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(is_development_secret(secret.as_bytes()));
        assert!(is_development_secret(format!("{secret}\n").as_bytes()));
        assert!(!is_development_secret(digits.as_bytes()));
    }

    #[test]
    fn the_identity_key_is_random_and_marked() {
        let ((_directory, paths), (_other, others)) = (fresh(), fresh());
        prepare(&paths).unwrap();
        prepare(&others).unwrap();
        let key = fs::read(&paths.identity).unwrap();
        assert!(is_development_key(&key) && key != fs::read(&others.identity).unwrap());
    }

    #[test]
    fn keys_and_secret_are_for_their_owner_alone() {
        let (_directory, paths) = fresh();
        prepare(&paths).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&paths.key), 0o600);
        assert_eq!(mode(&paths.secret), 0o600);
        assert_eq!(mode(&paths.identity), 0o600);
        assert_eq!(mode(&paths.certificate) & 0o133, 0);
    }

    #[test]
    fn no_draft_is_left_behind() {
        let (_directory, paths) = fresh();
        prepare(&paths).unwrap();
        let entries = fs::read_dir(paths.key.parent().unwrap()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["dev.crt", "dev.identity", "dev.key", "dev.secret"]);
    }

    #[test]
    fn what_is_good_is_kept_until_a_week_before_its_end() {
        let (_directory, paths) = fresh();
        let now = SystemTime::now();
        prepare_at(&paths, now).unwrap();
        let made = fs::read(&paths.certificate).unwrap();
        assert_eq!(prepare_at(&paths, now + 82 * DAY).unwrap(), NONE);
        assert_eq!(fs::read(&paths.certificate).unwrap(), made);
        assert_eq!(prepare_at(&paths, now + 84 * DAY).unwrap(), CERTIFICATE);
        assert_ne!(fs::read(&paths.certificate).unwrap(), made);
        assert_eq!(prepare_at(&paths, now + 84 * DAY).unwrap(), NONE);
        assert_eq!(prepare_at(&paths, now + 400 * DAY).unwrap(), CERTIFICATE);
    }

    #[test]
    fn a_pair_that_lost_its_half_is_made_anew() {
        let (_directory, paths) = fresh();
        prepare(&paths).unwrap();
        fs::remove_file(&paths.key).unwrap();
        assert_eq!(prepare(&paths).unwrap(), CERTIFICATE);
        fs::remove_file(&paths.certificate).unwrap();
        assert_eq!(prepare(&paths).unwrap(), CERTIFICATE);
        let (_other, others) = fresh();
        prepare(&others).unwrap();
        fs::copy(&others.key, &paths.key).unwrap();
        assert_eq!(prepare(&paths).unwrap(), CERTIFICATE);
    }

    #[test]
    fn files_without_the_mark_are_never_overwritten() {
        let (_directory, paths) = fresh();
        fs::create_dir_all(paths.key.parent().unwrap()).unwrap();
        let expired = testing::source_valid(
            "real",
            &["shop.test"],
            SystemTime::UNIX_EPOCH + DAY,
            SystemTime::UNIX_EPOCH + 2 * DAY,
        );
        fs::write(&paths.certificate, &expired.chain_pem).unwrap();
        fs::write(&paths.secret, "real").unwrap();
        fs::write(&paths.identity, "real").unwrap();
        assert_eq!(prepare(&paths).unwrap(), NONE);
        assert_eq!(fs::read(&paths.certificate).unwrap(), expired.chain_pem);
        assert_eq!(fs::read(&paths.secret).unwrap(), b"real");

        fs::remove_file(&paths.certificate).unwrap();
        fs::write(&paths.key, &expired.key_pem).unwrap();
        let error = prepare(&paths).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("dev.key"));
        assert_eq!(fs::read(&paths.key).unwrap(), expired.key_pem);
        assert!(!paths.certificate.exists());
    }

    #[test]
    fn an_error_names_its_path() {
        let (directory, paths) = fresh();
        fs::write(directory.path().join("certs"), "a file where the directory belongs").unwrap();
        assert!(prepare(&paths).unwrap_err().to_string().contains("certs"));
    }
}
