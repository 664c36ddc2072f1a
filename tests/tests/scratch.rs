use aya::programs::Xdp;
use aya::{Btf, EbpfLoader, VerifierLogLevel};
#[test]
fn load() {
    let path = std::env::var("OBJ").unwrap();
    let data = std::fs::read(path).unwrap();
    let level = if std::env::var("VLOG").is_ok() { VerifierLogLevel::VERBOSE | VerifierLogLevel::STATS } else { VerifierLogLevel::STATS };
    let mut ebpf = EbpfLoader::new().verifier_log_level(level).btf(Btf::from_sys_fs().ok().as_ref()).load(&data).unwrap();
    for name in ["reflect", "mesos_xdns"] {
        let p: &mut Xdp = ebpf.program_mut(name).unwrap().try_into().unwrap();
        match p.load() {
            Ok(()) => { let i = p.info().unwrap(); println!("{name}: ok verified={:?} xlated={:?} jited={:?}", i.verified_instruction_count(), i.size_translated(), i.size_jitted()); }
            Err(e) => { let s = format!("{e:?}"); let s = s.replace("\\n","\n"); let l: Vec<&str> = s.lines().collect(); println!("{name}: FAIL"); for x in &l[l.len().saturating_sub(70)..] { println!("{x}"); } }
        }
    }
}
