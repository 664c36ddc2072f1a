//! One refresh against real HTTP servers: what masters answer, and what comes of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::{fs, sync::Arc, time::Duration};

use data_encoding::BASE64URL_NOPAD;
use dns_userspace::config::{Secret, Tls};
use dns_userspace::mesos::{
    auth::{Authentication, IamAccount},
    fetch::{Cause, FetchError, FetchSettings, Fetched, Fetcher, SetupError},
    leader::Candidates,
    master::MasterAddress,
    operator_api,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tests::{
    fake_master::{Behaviour, FakeMaster, Request, STATE_PATH},
    keys::Keys,
    needs_tool,
};
use tokio::sync::{mpsc, watch};

/// Longer than anything here takes when it works.
const DEADLINE: Duration = Duration::from_secs(20);
/// Shorter, for the tests that wait for it to pass.
const SHORT: Duration = Duration::from_millis(400);

fn settings() -> FetchSettings {
    FetchSettings {
        timeout: DEADLINE,
        ..FetchSettings::default()
    }
}

fn at(master: &FakeMaster) -> MasterAddress {
    let address = master.address();
    MasterAddress::new(address.ip().to_string(), address.port())
}

fn leader_text(master: &FakeMaster) -> String {
    format!("master@{}", master.address())
}

/// Fetches by way of these masters.
async fn refresh(settings: FetchSettings, masters: &[&FakeMaster]) -> Result<Fetched, FetchError> {
    let list: Vec<MasterAddress> = masters.iter().map(|master| at(master)).collect();
    Fetcher::new(settings)
        .unwrap()
        .refresh(&Candidates::of_list(&list))
        .await
}

/// The one cause of a failure with one master.
fn cause(result: Result<Fetched, FetchError>) -> Cause {
    let mut errors = result.unwrap_err().0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0).cause
}

/// A master whose behaviour makes a fetch fail with a transport error; gives the text.
async fn transport_error(behaviour: Behaviour, settings: FetchSettings) -> String {
    let master = FakeMaster::start().unwrap();
    master.behave(behaviour);
    match cause(refresh(settings, &[&master]).await) {
        Cause::Transport(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn request_is_that_of_mesos_dns() {
    let master = FakeMaster::start().unwrap();
    refresh(settings(), &[&master]).await.unwrap();
    let requests = master.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", STATE_PATH)
    );
    assert_eq!(request.header("user-agent"), "Mesos-DNS");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("accept-encoding"), "gzip");
    assert_eq!(request.header("connection"), "close");
    assert_eq!(request.header("authorization"), "");
}

#[tokio::test]
async fn captured_state_arrives_unchanged_plain_and_compressed() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/mesos-dns/fake-local.json"
    );
    let captured = fs::read(path).unwrap();
    let master = FakeMaster::start().unwrap();
    let elsewhere = FakeMaster::start().unwrap();
    master.serve_bytes(captured.clone());
    // The captured state names a leader of its own, which does not run here.
    for gzip in [false, true] {
        elsewhere.set_leader(&leader_text(&master)).unwrap();
        master.compress(gzip);
        // By way of another one the leader's reply is used, whomever it names.
        let fetched = refresh(settings(), &[&elsewhere]).await.unwrap();
        assert_eq!(fetched.body, captured);
        assert_eq!(fetched.leader, "master@127.0.0.1:15050");
        assert_eq!(fetched.fetched_from, at(&master));
    }
}

/// RFC 9110, section 8.4.1: a coding is named in any case. RFC 1952, section 2.2: a body may be of
/// several members.
#[tokio::test]
async fn gzip_is_read_however_it_is_named_and_cut() {
    let master = FakeMaster::start().unwrap();
    let state = json!({ "leader": leader_text(&master), "padding": "x".repeat(100_000) });
    master.serve_state(&state);
    for (coding, members) in [("GZIP", 1), ("Gzip", 2), ("gzip", 7)] {
        master.compress_as(coding, members);
        let fetched = refresh(settings(), &[&master]).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&fetched.body).unwrap();
        assert_eq!(body, state, "{coding} {members}");
        let small = FetchSettings {
            max_body_octets: 99_000,
            ..settings()
        };
        let result = refresh(small, &[&master]).await;
        assert_eq!(cause(result), Cause::TooLarge(99_000));
    }
}

#[tokio::test]
async fn status_does_not_matter_when_the_body_is_a_state() {
    let master = FakeMaster::start().unwrap();
    for code in [500, 404, 201] {
        master.behave(Behaviour::StateWithStatus(code));
        let fetched = refresh(settings(), &[&master]).await.unwrap();
        assert_eq!(fetched.leader, leader_text(&master));
    }
}

#[tokio::test]
async fn body_that_is_no_state_names_the_master_the_status_and_the_place() {
    let master = FakeMaster::start().unwrap();
    for (code, body, reason) in [
        (200, "", "EOF while parsing a value at line 1 column 0"),
        (
            200,
            "{\"leader\":\"master@",
            "EOF while parsing a string at line 1 column 18",
        ),
        (200, "{} {}", "trailing characters at line 1 column 4"),
        (
            500,
            "Internal Server Error",
            "expected value at line 1 column 1",
        ),
        (
            200,
            "{\"leader\":5}",
            "invalid type: integer `5`, expected a string",
        ),
    ] {
        master.behave(Behaviour::Body(code, body.into()));
        let text = refresh(settings(), &[&master])
            .await
            .unwrap_err()
            .to_string();
        let start = format!("master {}: answered {code} ", master.address());
        assert!(text.starts_with(&start) && text.contains(reason), "{text}");
    }
}

#[tokio::test]
async fn leader_must_be_there_and_well_formed() {
    let master = FakeMaster::start().unwrap();
    master.set_leader("").unwrap();
    let result = refresh(settings(), &[&master]).await;
    assert_eq!(cause(result), Cause::NoLeader);
    assert_eq!(
        Cause::NoLeader.to_string(),
        "fetched state does not contain leader information"
    );
    for leader in ["127.0.0.1:5050", "a@b@127.0.0.1:5050", "master@127.0.0.1"] {
        master.set_leader(leader).unwrap();
        let result = refresh(settings(), &[&master]).await;
        assert_eq!(cause(result), Cause::InvalidLeader(leader.to_owned()));
    }
}

#[tokio::test]
async fn leader_is_asked_on_its_own_port() {
    let (leader, follower) = (FakeMaster::start().unwrap(), FakeMaster::start().unwrap());
    follower.set_leader(&leader_text(&leader)).unwrap();
    leader.serve_state(&json!({ "leader": leader_text(&leader), "id": "the leader's" }));
    let fetched = refresh(settings(), &[&follower]).await.unwrap();
    let state: Value = serde_json::from_slice(&fetched.body).unwrap();
    assert_eq!(state["id"], "the leader's");
    assert_eq!(fetched.fetched_from, at(&leader));
    assert_eq!((follower.requests().len(), leader.requests().len()), (1, 1));
}

#[tokio::test]
async fn leader_that_knows_no_leader_is_an_error_of_its_own() {
    let (leader, follower) = (FakeMaster::start().unwrap(), FakeMaster::start().unwrap());
    follower.set_leader(&leader_text(&leader)).unwrap();
    leader.set_leader("").unwrap();
    let error = refresh(settings(), &[&follower]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("master {}: empty master", leader.address())
    );
}

#[tokio::test]
async fn leader_reached_by_name_is_not_asked_twice() {
    let master = FakeMaster::start().unwrap();
    let by_name = MasterAddress::new("localhost", master.address().port());
    let fetcher = Fetcher::new(settings()).unwrap();
    let fetched = fetcher
        .refresh(&Candidates::of_list(&[by_name]))
        .await
        .unwrap();
    assert_eq!(fetched.fetched_from, at(&master));
    assert_eq!(master.requests().len(), 1);
}

#[tokio::test]
async fn candidates_are_tried_in_order_and_all_failures_are_told() {
    let masters: Vec<FakeMaster> = (0..3).map(|_| FakeMaster::start().unwrap()).collect();
    let [first, second, third] = &masters[..] else {
        unreachable!()
    };
    first.behave(Behaviour::Body(503, "".into()));
    second.set_leader("").unwrap();
    let fetched = refresh(settings(), &[first, second, third]).await.unwrap();
    assert_eq!(fetched.fetched_from, at(third));
    third.behave(Behaviour::Body(200, "[]".into()));
    let error = refresh(settings(), &[first, second, third])
        .await
        .unwrap_err();
    let named: Vec<_> = error.0.iter().map(|error| error.master.clone()).collect();
    assert_eq!(named, [at(first), at(second), at(third)]);
    let text = error.to_string();
    assert!(
        text.contains("503") && text.contains("leader information"),
        "{text}"
    );
    let nobody = refresh(settings(), &[]).await.unwrap_err();
    assert_eq!(nobody.to_string(), "no masters given to fetch state.json");
}

#[tokio::test]
async fn refused_connection_names_the_cause() {
    let address = at(&FakeMaster::start().unwrap());
    let fetcher = Fetcher::new(settings()).unwrap();
    let list = Candidates::of_list(std::slice::from_ref(&address));
    let text = fetcher.refresh(&list).await.unwrap_err().to_string();
    assert!(text.starts_with(&format!("master {address}: ")), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[tokio::test]
async fn every_form_of_redirect_is_followed() {
    let (leader, follower) = (FakeMaster::start().unwrap(), FakeMaster::start().unwrap());
    let place = leader.address();
    for code in [301, 302, 307, 308] {
        for location in [
            format!("http://{place}{STATE_PATH}"),
            format!("//{place}{STATE_PATH}"),
        ] {
            follower.behave(Behaviour::Redirect(code, location));
            let fetched = refresh(settings(), &[&follower]).await.unwrap();
            assert_eq!(fetched.fetched_from, at(&leader));
        }
    }
    // The redirect led to the leader, so it was asked once each time.
    assert_eq!(leader.requests().len(), 8);
    for location in ["/elsewhere", "../elsewhere"] {
        follower.behave_at("/elsewhere", Behaviour::State);
        follower.behave(Behaviour::Redirect(307, location.to_owned()));
        let fetched = refresh(settings(), &[&follower]).await.unwrap();
        assert_eq!(fetched.fetched_from, at(&follower));
    }
}

#[tokio::test]
async fn ten_redirects_are_followed_and_a_loop_ends() {
    let master = FakeMaster::start().unwrap();
    master.behave(Behaviour::Redirect(307, "/1".to_owned()));
    for hop in 1..10 {
        master.behave_at(
            &format!("/{hop}"),
            Behaviour::Redirect(307, format!("/{}", hop + 1)),
        );
    }
    master.behave_at("/10", Behaviour::State);
    refresh(settings(), &[&master]).await.unwrap();
    let endless = Behaviour::Redirect(307, STATE_PATH.to_owned());
    let text = transport_error(endless, settings()).await;
    assert!(text.contains("too many redirects"), "{text}");
}

#[tokio::test]
async fn hanging_stalling_and_cut_responses_end_with_a_clear_text() {
    let short = || FetchSettings {
        timeout: SHORT,
        ..settings()
    };
    for behaviour in [Behaviour::Hang, Behaviour::Stall] {
        let text = transport_error(behaviour, short()).await;
        assert_eq!(text, "no complete response within 400ms");
    }
    let text = transport_error(Behaviour::Cut, settings()).await;
    assert!(text.contains("end of file before message length"), "{text}");
}

#[tokio::test]
async fn body_is_bounded_after_decompression() {
    let master = FakeMaster::start().unwrap();
    master.serve_state(&json!({ "leader": leader_text(&master), "padding": "x".repeat(100_000) }));
    for gzip in [false, true] {
        master.compress(gzip);
        let small = FetchSettings {
            max_body_octets: 50_000,
            ..settings()
        };
        let result = refresh(small, &[&master]).await;
        assert_eq!(cause(result), Cause::TooLarge(50_000));
        refresh(settings(), &[&master]).await.unwrap();
    }
}

#[tokio::test]
async fn basic_credentials_are_sent_and_dropped_on_a_redirect_to_another_place() {
    let (leader, follower) = (FakeMaster::start().unwrap(), FakeMaster::start().unwrap());
    let authentication = Authentication::Basic {
        principal: "Aladdin".to_owned(),
        secret: Secret::new("open sesame".to_owned()),
    };
    let settings = || FetchSettings {
        authentication: authentication.clone(),
        ..settings()
    };
    follower.set_leader(&leader_text(&leader)).unwrap();
    refresh(settings(), &[&follower]).await.unwrap();
    // RFC 7617, section 2: the example of the scheme.
    let header = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
    assert_eq!(follower.requests()[0].header("authorization"), header);
    assert_eq!(leader.requests()[0].header("authorization"), header);
    let location = format!("//{}{STATE_PATH}", leader.address());
    follower.behave(Behaviour::Redirect(307, location));
    refresh(settings(), &[&follower]).await.unwrap();
    assert_eq!(leader.requests()[1].header("authorization"), "");
    leader.behave(Behaviour::Body(401, "".into()));
    let text = refresh(settings(), &[&leader])
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("401") && !text.contains("sesame"), "{text}");
}

/// Settings of a server with the certificate `server.pem`, which may ask for a client's.
fn server(keys: &Keys, clients_must_show_one: bool) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if clients_must_show_one {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&keys.read("ca.pem")).unwrap())
            .unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let certificate = CertificateDer::from_pem_slice(&keys.read("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&keys.read("server.key")).unwrap();
    builder.with_single_cert(vec![certificate], key).unwrap()
}

fn https(ca: Option<Vec<u8>>) -> FetchSettings {
    FetchSettings {
        https: true,
        tls: Tls { ca, identity: None },
        ..settings()
    }
}

#[tokio::test]
async fn https_is_verified_with_a_ca_bundle_and_not_without() {
    needs_tool!("openssl");
    let (keys, others) = (Keys::new(), Keys::new());
    keys.certificates(&["server"]);
    others.certificates(&[]);
    let master = FakeMaster::start_https(server(&keys, false)).unwrap();
    refresh(https(None), &[&master]).await.unwrap();
    // A bundle of several, the right one last, and one that is broken.
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    let bundle = [others.read("ca.pem"), broken, keys.read("ca.pem")].concat();
    refresh(https(Some(bundle)), &[&master]).await.unwrap();
    let text = refresh(https(Some(others.read("ca.pem"))), &[&master])
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("invalid peer certificate"), "{text}");
    for bad in [
        &b"no certificate"[..],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = Fetcher::new(https(Some(bad.to_vec()))).err().unwrap();
        assert!(matches!(error, SetupError::CaCertificates), "{error}");
        assert!(
            error.to_string().starts_with("CACertFile parsing failed: "),
            "{error}"
        );
    }
}

/// Reads the first event that a master streams, or gives up when the stream fails.
async fn first_event(master: &FakeMaster, tls: Tls) -> Option<operator_api::Observation> {
    let settings = operator_api::OperatorApiSettings {
        https: true,
        token: Some("secret".to_owned()),
        ..operator_api::OperatorApiSettings::default()
    };
    let client = operator_api::http_client(&tls, DEADLINE).unwrap();
    let (_masters, masters) = watch::channel(vec![at(master).to_string()]);
    let (out, mut observations) = mpsc::channel(1);
    let (status, mut failed) = watch::channel(operator_api::StreamStatus::default());
    let nobody: operator_api::Resolver = Arc::new(|_| Box::pin(async { None }));
    let running = tokio::spawn(operator_api::follow(
        settings, client, masters, nobody, out, status,
    ));
    let first = tokio::select! {
        biased;
        first = observations.recv() => first,
        _ = failed.wait_for(|status| status.failures > 0) => None,
        () = tokio::time::sleep(DEADLINE) => panic!("neither an event nor a failure"),
    };
    drop(observations);
    running.await.unwrap();
    first
}

#[tokio::test]
async fn the_event_stream_is_verified_and_has_the_token() {
    needs_tool!("openssl");
    let (keys, others) = (Keys::new(), Keys::new());
    keys.certificates(&["server"]);
    others.certificates(&[]);
    let master = FakeMaster::start_https(server(&keys, false)).unwrap();
    let event = r#"{"type":"SUBSCRIBED","subscribed":{}}"#;
    let stream = format!("{}\n{event}", event.len());
    master.behave_at("/api/v1", Behaviour::Body(200, stream.into()));
    let with = |ca: Option<Vec<u8>>| Tls { ca, identity: None };
    for ca in [None, Some(keys.read("ca.pem"))] {
        let first = first_event(&master, with(ca)).await;
        assert!(
            matches!(first, Some(operator_api::Observation::Subscribed { .. })),
            "{first:?}"
        );
    }
    let requests = master.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("authorization"), "token=secret");
    assert_eq!(requests[0].body, r#"{"type":"SUBSCRIBE"}"#);
    let first = first_event(&master, with(Some(others.read("ca.pem")))).await;
    assert!(first.is_none(), "{first:?}");
    assert_eq!(master.requests().len(), 2);
}

#[tokio::test]
async fn client_certificate_is_shown_to_a_master_that_asks() {
    needs_tool!("openssl");
    let keys = Keys::new();
    keys.certificates(&["server", "client"]);
    let master = FakeMaster::start_https(server(&keys, true)).unwrap();
    let with_ca = https(Some(keys.read("ca.pem")));
    assert!(refresh(with_ca.clone(), &[&master]).await.is_err());
    let shown = |key| {
        let identity = Some([keys.read("client.pem"), keys.read(key)].concat());
        let tls = Tls {
            ca: Some(keys.read("ca.pem")),
            identity,
        };
        FetchSettings {
            tls,
            ..with_ca.clone()
        }
    };
    refresh(shown("client.key"), &[&master]).await.unwrap();
    let error = Fetcher::new(shown("ca.pem")).err().unwrap();
    assert!(matches!(error, SetupError::ClientCertificate(_)), "{error}");
}

/// A token as IAM gives it: a JWT with an end, here without a signature.
fn token(name: &str, lifetime: i64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let end = i64::try_from(now.as_secs()).unwrap() + lifetime;
    let claims = json!({ "exp": end, "uid": name }).to_string();
    format!("e30.{}.{name}", BASE64URL_NOPAD.encode(claims.as_bytes()))
}

const LOGIN: &str = "/acs/api/v1/auth/login";

fn give(master: &FakeMaster, token: &str) {
    let reply = json!({ "Token": token }).to_string();
    master.behave_at(LOGIN, Behaviour::Body(200, reply.into()));
}

fn iam(master: &FakeMaster, key: &[u8]) -> FetchSettings {
    let account = IamAccount {
        uid: "mesos-xdns".to_owned(),
        private_key: Secret::new(String::from_utf8(key.to_vec()).unwrap()),
        login_endpoint: format!("http://{}{LOGIN}", master.address()),
    };
    FetchSettings {
        authentication: Authentication::Iam(account),
        ..settings()
    }
}

fn logins(requests: &[Request]) -> usize {
    requests
        .iter()
        .filter(|request| request.path == LOGIN)
        .count()
}

#[tokio::test]
async fn iam_login_is_signed_and_its_token_sent_and_reused() {
    needs_tool!("openssl");
    let keys = Keys::new();
    keys.openssl("genrsa -out pkcs8.pem 2048");
    keys.openssl("rsa -in pkcs8.pem -traditional -out pkcs1.pem");
    keys.openssl("rsa -in pkcs8.pem -pubout -out public.pem");
    for key in ["pkcs8.pem", "pkcs1.pem"] {
        let master = FakeMaster::start().unwrap();
        let first = token("first", 3600);
        give(&master, &first);
        let fetcher = Fetcher::new(iam(&master, &keys.read(key))).unwrap();
        let list = Candidates::of_list(&[at(&master)]);
        fetcher.refresh(&list).await.unwrap();
        fetcher.refresh(&list).await.unwrap();
        let requests = master.requests();
        assert_eq!((requests.len(), logins(&requests)), (3, 1));
        let login = &requests[0];
        assert_eq!(
            (login.method.as_str(), login.header("content-type")),
            ("POST", "application/json")
        );
        for state in &requests[1..] {
            assert_eq!(state.header("authorization"), format!("token={first}"));
        }
        // The assertion, checked by openssl: RS256 as in RFC 7518, section 3.3.
        let body: Value = serde_json::from_slice(&login.body).unwrap();
        assert_eq!(body["uid"], "mesos-xdns");
        let (signed, signature) = body["token"].as_str().unwrap().rsplit_once('.').unwrap();
        keys.write("signed", signed.as_bytes());
        keys.write(
            "signature",
            &BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap(),
        );
        keys.openssl("dgst -sha256 -verify public.pem -signature signature signed");
        let (head, claims) = signed.split_once('.').unwrap();
        let decode = |part: &str| -> Value {
            serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(decode(head), json!({ "alg": "RS256", "typ": "JWT" }));
        let claims = decode(claims);
        assert_eq!(claims["uid"], "mesos-xdns");
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let left = claims["exp"].as_u64().unwrap() - now.as_secs();
        assert!((3500..=3600).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn token_is_replaced_near_its_end_when_it_tells_none_and_when_refused() {
    needs_tool!("openssl");
    let keys = Keys::new();
    keys.openssl("genrsa -out key.pem 2048");
    let master = FakeMaster::start().unwrap();
    let fetcher = Fetcher::new(iam(&master, &keys.read("key.pem"))).unwrap();
    let list = Candidates::of_list(&[at(&master)]);
    for short in [token("short", 30), "opaque".to_owned()] {
        give(&master, &short);
        let before = logins(&master.requests());
        fetcher.refresh(&list).await.unwrap();
        fetcher.refresh(&list).await.unwrap();
        assert_eq!(logins(&master.requests()), before + 2);
    }
    give(&master, &token("long", 3600));
    fetcher.refresh(&list).await.unwrap();
    let before = master.requests().len();
    master.behave(Behaviour::Body(401, "".into()));
    assert!(fetcher.refresh(&list).await.is_err());
    // The state, a login, the state again; no more.
    let requests = master.requests();
    assert_eq!(
        (requests.len() - before, logins(&requests[before..])),
        (3, 1)
    );
}

#[tokio::test]
async fn every_failed_login_is_told_as_such_without_secrets() {
    needs_tool!("openssl");
    let keys = Keys::new();
    keys.openssl("genrsa -out key.pem 2048");
    let master = FakeMaster::start().unwrap();
    let short = FetchSettings {
        timeout: SHORT,
        ..iam(&master, &keys.read("key.pem"))
    };
    let assertion = "hunter2";
    for (behaviour, detail) in [
        (Behaviour::Body(401, "".into()), "answered 401 Unauthorized"),
        (
            Behaviour::Body(500, format!("{{\"token\":\"{assertion}\"}}").into()),
            "answered 500",
        ),
        (
            Behaviour::Body(201, format!("{{\"token\":\"{assertion}\"}}").into()),
            "answered 201",
        ),
        (
            Behaviour::Body(200, format!("{{\"tokens\":\"{assertion}\"}}").into()),
            "holds no token",
        ),
        (
            Behaviour::Body(200, format!("\"{assertion}\"").into()),
            "holds no token",
        ),
        (
            Behaviour::Body(200, "{\"token\":\"\"}".into()),
            "holds no token",
        ),
        (
            Behaviour::Body(200, "{\"token\":\"a\\nhunter2\"}".into()),
            "does not fit",
        ),
        (Behaviour::Hang, "timed out"),
    ] {
        master.behave_at(LOGIN, behaviour);
        let text = refresh(short.clone(), &[&master])
            .await
            .unwrap_err()
            .to_string();
        let start = format!("master {}: IAM authentication failed: ", master.address());
        assert!(text.starts_with(&start) && text.contains(detail), "{text}");
        assert!(!text.contains(assertion), "{text}");
    }
    assert_eq!(logins(&master.requests()), master.requests().len());
}
