//! A new configuration while serving: all of it, or nothing.
//!
//! Everything that can fail is made first, beside what runs. Only then is anything replaced, and a
//! socket closes after the one that takes its place answers. Readiness is never touched: what was
//! known is served throughout.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use super::pipeline::{Pipeline, lock};
use super::setup::Setup;
use super::sockets::{Answering, HttpServer, Sockets, open_http, renew_certificates};
use super::{Daemon, Following, kernel};
use crate::dataplane::{self, Life};
use crate::mesos::follow::{self, Follower};
use crate::server::Server;

/// Whether what is there stays, or what takes its place.
enum Step<T> {
    Keep,
    Replace(T),
}

/// What a new configuration changes, made and not yet in effect.
pub(super) struct Plan {
    setup: Setup,
    answering: Option<Answering>,
    pipeline: Option<Pipeline>,
    follower: Option<Follower>,
    dns: Step<Option<Server>>,
    http: Step<Option<TcpListener>>,
    dataplane: Option<(dataplane::Settings, Life)>,
}

impl Daemon {
    /// Takes a configuration, or says why not.
    pub(super) async fn reload(&mut self, loaded: Result<Setup>) {
        let planned = match loaded {
            Ok(setup) => self.plan(setup).await,
            Err(error) => Err(error),
        };
        let succeeded = planned.is_ok();
        match planned {
            Ok(plan) => self.carry_out(plan).await,
            Err(error) => error!(
                error = format!("{error:#}"),
                "the configuration is not taken; all stays as it was"
            ),
        }
        let result = &self.account.reload_succeeded;
        result.store(succeeded, Ordering::Relaxed);
    }

    pub(super) async fn plan(&self, setup: Setup) -> Result<Plan> {
        let same_domain = self.setup.config.domain == setup.config.domain;
        ensure!(
            self.setup.config.dcos == setup.config.dcos
                && (same_domain || self.account.cluster.is_none()),
            "dcos, and Domain beside it, do not change while a DC/OS node runs: restart for that"
        );
        ensure!(
            socket_settings(&self.setup) == socket_settings(&setup),
            "server.udp_workers, server.tcp, and the listeners of server.tls and server.https do not \
             change while the daemon runs: restart for that"
        );
        ensure!(
            self.setup.follows_mesos() == setup.follows_mesos(),
            "Mesos is not begun nor ceased to be followed while the daemon runs: restart for that"
        );
        self.transfers
            .can_follow(&self.setup.config, &setup.config)?;
        let is_same_policy = self.setup.config.set_truncate_bit == setup.config.set_truncate_bit
            && self.setup.config.server == setup.config.server;
        let transfers_the_same = self.setup.transfers_as(&setup);
        let answering = if self.setup.forwards_as(&setup) && is_same_policy && transfers_the_same {
            None
        } else {
            Some(Answering::new(
                &setup,
                self.account.cluster.as_ref(),
                &self.transfers,
            )?)
        };
        let pipeline =
            lock(&self.pipeline).successor(setup.record_settings(), setup.config.recurse_on)?;
        let dataplane = (setup.dataplane_settings(self.seed)?, setup.life());
        let before = (self.setup.dataplane_settings(self.seed)?, self.setup.life());
        let dataplane = (dataplane != before).then_some(dataplane);
        let http = match self.is_listening && http_place(&self.setup) != http_place(&setup) {
            false => Step::Keep,
            true if setup.config.http_on => Step::Replace(Some(open_http(&setup).await?)),
            true => Step::Replace(None),
        };
        let dns = match self.is_listening && dns_place(&self.setup) != dns_place(&setup) {
            false => Step::Keep,
            true if setup.config.dns_on => {
                let answering = answering.as_ref().unwrap_or(&self.answering);
                let served = &self.account.outlet.served;
                let before = lock(&self.account.sockets);
                let server =
                    answering.open(&setup, served, &self.account.watch, before.dns.as_ref())?;
                Step::Replace(Some(server))
            }
            true => Step::Replace(None),
        };
        let follower = if self.setup.follows_as(&setup) || !setup.follows_mesos() {
            None
        } else {
            let settings = setup.follow_settings()?;
            Some(follow::follow(settings).context("asking the masters")?)
        };
        Ok(Plan {
            setup,
            answering,
            pipeline,
            follower,
            dns,
            http,
            dataplane,
        })
    }

    pub(super) async fn carry_out(&mut self, plan: Plan) {
        let account = Arc::clone(&self.account);
        let changes = plan.changes();
        account.config.store(Arc::new(plan.setup.config.clone()));
        let transfers_the_same = self.setup.transfers_as(&plan.setup);
        self.setup = plan.setup;
        if !transfers_the_same && self.is_listening {
            self.transfers.notify(&self.setup, &account.outlet.served);
        }
        if let Some(dns) = &lock(&account.sockets).dns {
            renew_certificates(dns, &self.setup.config.server);
        }
        if let Some(answering) = plan.answering {
            if let Some(dns) = &lock(&account.sockets).dns {
                answering.apply_to(dns);
            }
            self.answering = answering;
        }
        if let Some(pipeline) = plan.pipeline {
            *lock(&self.pipeline) = pipeline;
            let published = self.on_pipeline(Pipeline::publish_again).await;
            if let Err(error) = published.and_then(|result| result) {
                warn!(
                    error = format!("{error:#}"),
                    "the state is not published again"
                );
            }
        }
        if let Some((settings, life)) = plan.dataplane {
            self.change_dataplane(settings, life).await;
        }
        let mut old = Sockets::default();
        {
            let mut sockets = lock(&account.sockets);
            if let Step::Replace(dns) = plan.dns {
                old.dns = std::mem::replace(&mut sockets.dns, dns);
            }
            if let Step::Replace(http) = plan.http {
                let http = http.map(|one| HttpServer::start(one, Arc::clone(&account)));
                old.http = std::mem::replace(&mut sockets.http, http);
            }
        }
        tokio::spawn(old.close());
        if let Some(follower) = plan.follower {
            *lock(&account.following) = follower.status.clone();
            let (candidates, wishes) = (&self.following.candidates, &self.following.wishes);
            self.following = Following::with(follower, candidates.clone(), Arc::clone(wishes));
        }
        info!(changes, "the configuration is taken");
    }

    /// Has the kernel go on by other settings.
    async fn change_dataplane(&self, settings: dataplane::Settings, life: Life) {
        let account = Arc::clone(&self.account);
        let lease = self.lease.clone();
        let changed = self.on_pipeline(move |pipeline| {
            let mut dataplane = lock(&account.dataplane);
            let result = dataplane.change(&settings, &life, &lease);
            kernel::report(&dataplane);
            drop(dataplane);
            if let Ok(true) = result {
                pipeline.change_dataplane();
            }
            result
        });
        match changed.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "XDP goes on as before"),
            Err(error) => warn!(error = format!("{error:#}"), "XDP goes on as before"),
        }
    }
}

impl Plan {
    /// What is replaced, in words for the log.
    fn changes(&self) -> String {
        let all = [
            ("records", self.pipeline.is_some()),
            ("answering", self.answering.is_some()),
            ("DNS sockets", matches!(self.dns, Step::Replace(_))),
            ("HTTP socket", matches!(self.http, Step::Replace(_))),
            ("Mesos", self.follower.is_some()),
            ("XDP", self.dataplane.is_some()),
        ];
        let changed: Vec<&str> = all
            .iter()
            .filter(|(_, changed)| *changed)
            .map(|(what, _)| *what)
            .collect();
        if changed.is_empty() {
            return "none that needs a replacement".to_owned();
        }
        changed.join(", ")
    }
}

fn dns_place(setup: &Setup) -> (bool, String, u16) {
    let config = &setup.config;
    (config.dns_on, config.listener.clone(), config.port)
}

/// What is settled when the sockets of the server are opened.
fn socket_settings(setup: &Setup) -> impl PartialEq {
    let server = &setup.config.server;
    let encrypted = [&server.tls, &server.https].map(|one| one.listeners.clone());
    (server.udp_workers, server.tcp, encrypted)
}

fn http_place(setup: &Setup) -> (bool, String, u16) {
    let config = &setup.config;
    (
        config.http_on,
        config.http_listener.clone(),
        config.http_port,
    )
}
