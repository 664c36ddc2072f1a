use std::sync::Mutex;

use super::*;
use crate::mesos::fetch::{Cause, MasterError};

const REFRESH: Duration = Duration::from_secs(60);

/// What a scripted fetch does.
#[derive(Clone, Copy)]
enum Act {
    Succeed,
    Fail,
    Hang,
}

/// A loop over scripted fetches; each fetch's start and first candidate are recorded.
struct Scene {
    follower: Follower,
    candidates: watch::Sender<Candidates>,
    started: mpsc::UnboundedReceiver<(Instant, String)>,
    script: Arc<Mutex<Act>>,
    begun: Instant,
}

fn list(texts: &[&str]) -> Candidates {
    let masters: Vec<MasterAddress> = texts.iter().map(|text| text.parse().unwrap()).collect();
    Candidates::of_list(&masters)
}

fn scene(first: Candidates, zookeeper: bool, act: Act) -> Scene {
    let (candidates, receiver) = watch::channel(first);
    let (status, zookeeper_receiver) = watch::channel(ZooKeeperStatus::default());
    // The sender must outlive the scene, as the client's task does.
    std::mem::forget(status);
    let detection = Detection::from_parts(receiver, zookeeper.then_some(zookeeper_receiver));
    let (recorder, started) = mpsc::unbounded_channel();
    let script = Arc::new(Mutex::new(act));
    let acts = Arc::clone(&script);
    let fetch = move |candidates: Candidates| {
        let first = candidates.to_ask().next().cloned();
        let name = first.as_ref().map(ToString::to_string).unwrap_or_default();
        let _ = recorder.send((Instant::now(), name));
        let act = *acts.lock().unwrap();
        async move {
            let master = first.ok_or(FetchError(Vec::new()))?;
            match act {
                Act::Succeed => Ok(Fetched {
                    body: Bytes::from_static(b"{}"),
                    leader: format!("master@{master}"),
                    fetched_from: master,
                }),
                Act::Fail => Err(FetchError(vec![MasterError {
                    master,
                    cause: Cause::NoLeader,
                }])),
                Act::Hang => std::future::pending().await,
            }
        }
    };
    let begun = Instant::now();
    let follower = follow_with(Some(REFRESH), Duration::from_secs(30), detection, fetch);
    Scene {
        follower,
        candidates,
        started,
        script,
        begun,
    }
}

impl Scene {
    /// Seconds from the start of the scene to the start of the next fetch, and whom it asked.
    async fn next_start(&mut self) -> (f64, String) {
        let (moment, name) = self.started.recv().await.unwrap();
        ((moment - self.begun).as_secs_f64(), name)
    }
}

#[tokio::test(start_paused = true)]
async fn wishes_are_granted_at_once_but_not_often() {
    let mut scene = scene(list(&["10.0.0.1:1"]), false, Act::Succeed);
    let mut starts = vec![scene.next_start().await.0];
    for at in [0.1, 0.2, 0.3, 30.0] {
        tokio::time::sleep_until(scene.begun + Duration::from_secs_f64(at)).await;
        scene.follower.wishes.notify_one();
        while scene.follower.observations.try_recv().is_ok() {}
    }
    for _ in 0..3 {
        starts.push(scene.next_start().await.0);
    }
    for (start, expected) in starts.iter().zip([0.0, 1.0, 30.0, 90.0]) {
        assert!((start - expected).abs() < 0.01, "{starts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn list_is_fetched_at_once_and_then_every_period() {
    let mut scene = scene(list(&["10.0.0.1:1"]), false, Act::Succeed);
    for expected in [0.0, 60.0, 120.0] {
        let observation = scene.follower.observations.recv().await.unwrap();
        assert_eq!(observation.leader, "master@10.0.0.1:1");
        let (start, _) = scene.next_start().await;
        assert!((start - expected).abs() < 0.01, "{start} {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_at_growing_intervals_up_to_the_period() {
    let mut scene = scene(list(&["10.0.0.1:1"]), false, Act::Fail);
    let mut last = scene.next_start().await.0;
    for longest in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        let start = scene.next_start().await.0;
        let pause = start - last;
        assert!(
            pause >= longest * 0.74 && pause <= longest + 0.01,
            "{pause} for {longest}"
        );
        last = start;
    }
    let status = scene.follower.status.borrow().clone();
    assert!(status.failures_in_a_row >= 8);
    assert!(
        status
            .last_error
            .unwrap()
            .error
            .contains("master 10.0.0.1:1: ")
    );
    *scene.script.lock().unwrap() = Act::Succeed;
    scene.follower.observations.recv().await.unwrap();
    assert_eq!(scene.follower.status.borrow().failures_in_a_row, 0);
}

#[tokio::test(start_paused = true)]
async fn event_replaces_a_hanging_fetch() {
    let mut scene = scene(list(&["10.0.0.1:1"]), true, Act::Hang);
    assert_eq!(scene.next_start().await.1, "10.0.0.1:1");
    *scene.script.lock().unwrap() = Act::Succeed;
    scene.candidates.send_replace(list(&["10.0.0.2:1"]));
    let observation = scene.follower.observations.recv().await.unwrap();
    assert_eq!(observation.fetched_from.to_string(), "10.0.0.2:1");
    assert_eq!(observation.candidates, list(&["10.0.0.2:1"]));
    assert!(scene.next_start().await.0 < 0.01);
    assert_eq!(scene.follower.status.borrow().counters.replaced, 1);
}

#[tokio::test(start_paused = true)]
async fn events_are_a_second_apart_and_the_last_candidates_count() {
    let mut scene = scene(list(&["10.0.0.1:1"]), true, Act::Succeed);
    scene.next_start().await;
    scene.candidates.send_replace(list(&["10.0.0.2:1"]));
    assert_eq!(scene.next_start().await.1, "10.0.0.2:1");
    for last in 3..9 {
        scene
            .candidates
            .send_replace(list(&[&format!("10.0.0.{last}:1")]));
        tokio::task::yield_now().await;
    }
    let (start, name) = scene.next_start().await;
    assert!((start - 1.0).abs() < 0.01, "{start}");
    assert_eq!(name, "10.0.0.8:1");
    assert_eq!(scene.next_start().await.0.round(), 61.0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_before_zookeeper_speaks_and_silence_is_marked() {
    let mut scene = scene(Candidates::default(), true, Act::Succeed);
    let mut status = scene.follower.status.clone();
    status
        .wait_for(|status| status.detection_timed_out)
        .await
        .unwrap();
    assert_eq!(scene.begun.elapsed().as_secs(), 30);
    scene.candidates.send_replace(list(&["10.0.0.2:1"]));
    let (start, name) = scene.next_start().await;
    assert!((start - 30.0).abs() < 0.01, "{start}");
    assert_eq!(name, "10.0.0.2:1");
    status
        .wait_for(|status| !status.detection_timed_out)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn slow_receiver_gets_the_latest_state_and_blocks_nothing() {
    let mut scene = scene(list(&["10.0.0.1:1"]), true, Act::Succeed);
    for last in 1..6 {
        scene
            .candidates
            .send_replace(list(&[&format!("10.0.0.{last}:2")]));
        let mut status = scene.follower.status.clone();
        status
            .wait_for(|s| {
                s.counters.successes >= last && s.candidates.leader.as_ref().unwrap().port() == 2
            })
            .await
            .unwrap();
        tokio::time::sleep(EVENT_SPACING).await;
    }
    // One in the channel, the latest behind it.
    scene.follower.observations.recv().await.unwrap();
    let latest = scene.follower.observations.recv().await.unwrap();
    assert_eq!(latest.fetched_from.to_string(), "10.0.0.5:2");
}

#[test]
fn each_error_of_an_outage_is_remembered_once() {
    let mut outage = Outage::default();
    for error in ["a", "b", "a", "a"] {
        outage.failed(error, REFRESH);
    }
    assert_eq!(outage.logged.len(), 2);
    assert_eq!(outage.over(), Some(4));
    assert_eq!(outage.over(), None);
}
