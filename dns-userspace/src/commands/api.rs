//! The HTTP API of a running daemon, as other commands ask it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use super::load_config;
use crate::config::{Config, Surroundings};

/// Which daemon is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The configuration of the daemon, which says where its HTTP API is
    #[arg(long, default_value = "config.json")]
    config: PathBuf,
    /// Where the HTTP API is, if not where the configuration says
    #[arg(long)]
    url: Option<String>,
}

/// A daemon that can be asked.
pub(super) struct Api {
    base: String,
    client: reqwest::Client,
}

impl Target {
    /// # Errors
    /// The configuration is no good, or has no HTTP API.
    pub(super) fn api(&self) -> anyhow::Result<Api> {
        let base = match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => url_of(&load_config(&self.config, &Surroundings::of_this_host())?)?,
        };
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(15))
            .build()?;
        Ok(Api { base, client })
    }
}

impl Api {
    /// Gets what is at `path`.
    ///
    /// # Errors
    /// No daemon answers, or it refuses.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let url = format!("{}{path}", self.base);
        let asked = async {
            let response = self.client.get(&url).send().await;
            let response = response.context("is the daemon running?")?;
            let status = response.status();
            if !status.is_success() {
                // What it says is more than the code.
                let said = response.text().await.unwrap_or_default();
                bail!("{status}: {}", said.trim());
            }
            Ok(response)
        };
        asked.await.with_context(|| format!("asking {url}"))
    }

    /// Gets the JSON at `path`.
    ///
    /// # Errors
    /// As [`Self::get`], or it is something else.
    pub(super) async fn json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.get(path).await?;
        let json = response.json().await;
        json.with_context(|| format!("reading {}{path}", self.base))
    }
}

/// A runtime for one command.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

fn url_of(config: &Config) -> anyhow::Result<String> {
    if !config.http_on {
        bail!("HttpOn is false in this configuration: there is no HTTP API to ask");
    }
    let listener = &config.http_listener;
    let host = match listener.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        Err(_) if listener.is_empty() => Ipv4Addr::LOCALHOST.to_string(),
        _ => listener.clone(),
    };
    Ok(format!("http://{host}:{}", config.http_port))
}
