//! How a fetch proves who it is: basic authentication, or a token from DC/OS IAM.
//!
//! Secrets appear in no error.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::config::Secret;
use crate::config::members::texts;

/// How long the assertion sent to the login endpoint is valid, as in mesos-dns.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(3600);
/// A token is replaced this long before its end, so that it outlives the fetch that carries it.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);
/// Longest login reply that is read; a token has a few hundred octets.
const MAX_LOGIN_REPLY_OCTETS: usize = 1 << 20;

/// What `MesosAuthentication` selects.
#[derive(Clone, Debug, Default)]
pub enum Authentication {
    /// No `Authorization` header.
    #[default]
    None,
    /// HTTP basic authentication on every state request.
    Basic {
        /// The user name; may be empty.
        principal: String,
        /// The password; may be empty.
        secret: Secret,
    },
    /// A token from DC/OS IAM.
    Iam(IamAccount),
}

/// The content of `IAMConfigFile`.
#[derive(Clone, Debug)]
pub struct IamAccount {
    /// The service account's name.
    pub uid: String,
    /// Its RSA private key of 2,048 to 4,096 bits: PEM, PKCS #1 or PKCS #8.
    pub private_key: Secret,
    /// Where the signed assertion is exchanged for a token.
    pub login_endpoint: String,
}

/// An RSA key that cannot sign.
#[derive(Debug, thiserror::Error)]
#[error("private_key of the IAM account cannot be used: {0}")]
pub struct KeyError(String);

/// The authentication of a fetcher, ready for use.
pub(super) enum Authenticator {
    None,
    Basic { principal: String, secret: Secret },
    Iam(Box<Iam>),
}

impl Authenticator {
    pub(super) fn new(authentication: Authentication) -> Result<Self, KeyError> {
        Ok(match authentication {
            Authentication::None => Self::None,
            Authentication::Basic { principal, secret } => Self::Basic { principal, secret },
            Authentication::Iam(account) => Self::Iam(Box::new(Iam::new(account)?)),
        })
    }

    /// Adds the `Authorization` header. The flag tells whether it holds a token of an earlier
    /// login, which may have been revoked since.
    pub(super) async fn authorize(
        &self,
        request: reqwest::RequestBuilder,
        client: &reqwest::Client,
    ) -> Result<(reqwest::RequestBuilder, bool), LoginError> {
        match self {
            Self::None => Ok((request, false)),
            Self::Basic { principal, secret } => {
                Ok((request.basic_auth(principal, Some(secret.expose())), false))
            }
            Self::Iam(iam) => {
                let (header, reused) = iam.token(client).await?;
                Ok((request.header(AUTHORIZATION, header), reused))
            }
        }
    }

    /// Drops a token that was refused.
    pub(super) async fn forget(&self) {
        if let Self::Iam(iam) = self {
            *iam.token.lock().await = None;
        }
    }
}

/// Why a login gave no token.
#[derive(Debug, thiserror::Error)]
#[error("IAM authentication failed: {0}")]
pub(super) struct LoginError(String);

pub(super) struct Iam {
    uid: String,
    key: RsaKeyPair,
    login_endpoint: String,
    token: Mutex<Option<Token>>,
}

struct Token {
    header: HeaderValue,
    fresh_until: SystemTime,
}

impl Iam {
    fn new(account: IamAccount) -> Result<Self, KeyError> {
        Ok(Self {
            uid: account.uid,
            key: signing_key(&account.private_key)?,
            login_endpoint: account.login_endpoint,
            token: Mutex::new(None),
        })
    }

    /// Gives the header with a token: the last one while it is fresh, else that of a login.
    async fn token(&self, client: &reqwest::Client) -> Result<(HeaderValue, bool), LoginError> {
        let mut kept = self.token.lock().await;
        let moment = SystemTime::now();
        if let Some(token) = kept.as_ref().filter(|token| moment < token.fresh_until) {
            return Ok((token.header.clone(), true));
        }
        *kept = None;
        let token = self.log_in(client, moment).await?;
        let mut header = HeaderValue::from_str(&format!("token={token}"))
            .map_err(|_| LoginError("the token does not fit into a header".to_owned()))?;
        header.set_sensitive(true);
        // A token that does not tell its end is used once, as mesos-dns does with every token.
        if let Some(end) = end_of(&token) {
            let fresh_until = end.checked_sub(TOKEN_MARGIN).unwrap_or(UNIX_EPOCH);
            *kept = Some(Token {
                header: header.clone(),
                fresh_until,
            });
        }
        Ok((header, false))
    }

    async fn log_in(
        &self,
        client: &reqwest::Client,
        moment: SystemTime,
    ) -> Result<String, LoginError> {
        let failed =
            |what: String| LoginError(format!("login at {}: {what}", self.endpoint_for_people()));
        let body = serde_json::json!({ "uid": self.uid, "token": self.assertion(moment)? });
        let request = client.post(&self.login_endpoint).json(&body);
        let mut response = request
            .send()
            .await
            .map_err(|error| failed(super::fetch::causes(error)))?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(failed(format!("answered {}", response.status())));
        }
        let mut reply = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| failed(super::fetch::causes(error)))?
        {
            reply.extend_from_slice(&chunk);
            if reply.len() > MAX_LOGIN_REPLY_OCTETS {
                return Err(failed(format!(
                    "answered with more than {MAX_LOGIN_REPLY_OCTETS} octets"
                )));
            }
        }
        let no_token = |why: &str| failed(format!("the reply holds no token{why}"));
        let [token] = texts(&reply, ["token"]).map_err(|why| no_token(&format!(": {why}")))?;
        if token.is_empty() {
            return Err(no_token(""));
        }
        Ok(token)
    }

    /// The JWT that proves possession of the key (RFC 7519, RFC 7518 section 3.3).
    fn assertion(&self, moment: SystemTime) -> Result<String, LoginError> {
        let end = (moment + ASSERTION_LIFETIME)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let claims = serde_json::json!({ "exp": end, "uid": self.uid }).to_string();
        let mut jwt = format!(
            "{}.{}",
            encode(r#"{"alg":"RS256","typ":"JWT"}"#),
            encode(&claims)
        );
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                jwt.as_bytes(),
                &mut signature,
            )
            .map_err(|_| LoginError("the assertion cannot be signed".to_owned()))?;
        jwt.push('.');
        jwt.push_str(&BASE64URL_NOPAD.encode(&signature));
        Ok(jwt)
    }

    /// The endpoint without user, password and query.
    fn endpoint_for_people(&self) -> String {
        match reqwest::Url::parse(&self.login_endpoint) {
            Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
            Err(_) => "login_endpoint (not a URL)".to_owned(),
        }
    }
}

/// Reads the private key of an account.
///
/// # Errors
/// It cannot sign.
pub(crate) fn signing_key(pem: &Secret) -> Result<RsaKeyPair, KeyError> {
    let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|_| KeyError("it is no PEM private key".to_owned()))?;
    let key = match &der {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        _ => return Err(KeyError("it is no RSA key".to_owned())),
    };
    key.map_err(|error| KeyError(error.to_string()))
}

/// When a JWT ends; `None` for any other kind of token.
fn end_of(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let claims = token.split('.').nth(1)?;
    let claims: Claims =
        serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?).ok()?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(claims.exp).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let basic = Authentication::Basic {
            principal: "p".to_owned(),
            secret: Secret::new("hunter2".to_owned()),
        };
        let iam = Authentication::Iam(IamAccount {
            uid: "u".to_owned(),
            private_key: Secret::new("hunter2".to_owned()),
            login_endpoint: "http://h".to_owned(),
        });
        assert!(!format!("{basic:?}{iam:?}").contains("hunter2"));
    }

    #[test]
    fn key_that_cannot_sign_is_refused_without_being_shown() {
        let account = |key: &str| IamAccount {
            uid: "u".to_owned(),
            private_key: Secret::new(key.to_owned()),
            login_endpoint: "http://h".to_owned(),
        };
        for key in [
            "hunter2",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let error = Iam::new(account(key)).err().unwrap().to_string();
            assert!(
                error.starts_with("private_key of the IAM account cannot be used"),
                "{error}"
            );
            assert!(
                !error.contains("hunter2") && !error.contains("AAAA"),
                "{error}"
            );
        }
    }

    #[test]
    fn end_of_a_token_is_its_exp_claim() {
        // RFC 7519, section 3.1: the example JWT ends at 1300819380.
        let token = concat!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
        assert_eq!(
            end_of(token),
            Some(UNIX_EPOCH + Duration::from_secs(1_300_819_380))
        );
        for token in ["opaque", "a.b.c", "", "..", "a.e30.c"] {
            assert_eq!(end_of(token), None, "{token}");
        }
    }
}
