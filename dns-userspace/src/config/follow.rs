//! The settings of following Mesos, handed inward.

use crate::mesos::auth::{self, IamAccount};
use crate::mesos::fetch::FetchSettings;
use crate::mesos::follow::FollowSettings;
use crate::mesos::leader::DetectionSettings;
use crate::mesos::master::MasterAddress;
use crate::mesos::state::split_host_port;
use crate::mesos::zookeeper::{TargetError, ZooKeeperTarget};
use std::time::Duration;

use super::{Authentication, Config};

impl Config {
    /// What finding and asking masters needs.
    ///
    /// # Errors
    ///
    /// `Zk` names a file that cannot be read, or no ZooKeeper; [`check`] reports that, too.
    pub fn follow_settings(&self) -> Result<FollowSettings, TargetError> {
        let seconds = |count: u32| Duration::from_secs(count.into());
        let masters = self.masters.iter().filter_map(|text| {
            let (host, port) = split_host_port(text).ok()?;
            Some(MasterAddress::new(host, port.parse().ok()?))
        });
        let zookeeper = match self.zk.as_str() {
            "" => None,
            text => Some(ZooKeeperTarget::load(text)?),
        };
        let authentication = match &self.authentication {
            Authentication::None => auth::Authentication::None,
            Authentication::Basic => auth::Authentication::Basic {
                principal: self.mesos_credentials.principal.clone(),
                secret: self.mesos_credentials.secret.clone(),
            },
            Authentication::Iam(iam) => auth::Authentication::Iam(IamAccount {
                uid: iam.uid.clone(),
                private_key: iam.private_key.clone(),
                login_endpoint: iam.login_endpoint.clone(),
            }),
        };
        Ok(FollowSettings {
            fetches: true,
            refresh: seconds(self.refresh_seconds),
            detection: DetectionSettings {
                masters: masters.collect(),
                zookeeper,
                timeout: seconds(self.zk_detection_timeout_seconds),
            },
            fetch: FetchSettings {
                https: self.mesos_https_on,
                tls: self.tls.clone(),
                authentication,
                timeout: seconds(self.state_timeout_seconds),
                ..FetchSettings::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Checked, Surroundings, check_text};
    use super::*;

    fn check(text: &str) -> Checked {
        check_text(
            text.as_bytes(),
            Path::new("/c.json"),
            &Surroundings::default(),
        )
    }

    #[test]
    fn keys_reach_the_settings() {
        let checked = check(
            r#"{"Masters": ["10.0.0.1:5050", "[2001:db8::1]:5051"], "Zk": "zk://u:p@h:1/mesos/",
                "RefreshSeconds": 7, "ZkDetectionTimeout": 8, "StateTimeoutSeconds": 9,
                "MesosHTTPSOn": true, "MesosAuthentication": "basic",
                "MesosCredentials": {"Principal": "p", "Secret": "s"}}"#,
        );
        let settings = checked.config.unwrap().follow_settings().unwrap();
        let masters: Vec<_> = settings
            .detection
            .masters
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(masters, ["10.0.0.1:5050", "[2001:db8::1]:5051"]);
        assert_eq!(
            settings.detection.zookeeper.unwrap().to_string(),
            "zk://h:1/mesos"
        );
        let times = [
            settings.refresh,
            settings.detection.timeout,
            settings.fetch.timeout,
        ];
        assert_eq!(times.map(|time| time.as_secs()), [7, 8, 9]);
        assert!(settings.fetch.https);
        let auth::Authentication::Basic { principal, secret } = settings.fetch.authentication
        else {
            panic!("{:?}", settings.fetch.authentication)
        };
        assert_eq!((principal.as_str(), secret.expose()), ("p", "s"));
    }

    #[test]
    fn bad_zk_is_a_problem_that_does_not_show_the_password() {
        let checked = check(r#"{"Zk": "zk://user:hunter2@h:x/mesos"}"#);
        assert_eq!(checked.problems.len(), 1, "{:?}", checked.problems);
        let text = checked.problems[0].to_string();
        assert!(
            text.contains("(Zk = \"…@h:x/mesos\"; accepted: zk://"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        let text = check(r#"{"Zk": "file:///no/such/file"}"#).problems[0].to_string();
        assert!(text.contains("/no/such/file: No such file"), "{text}");
    }
}
