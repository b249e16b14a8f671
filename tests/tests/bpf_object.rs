//! What must hold of the committed BPF object, checked without loading it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use egress_ebpf::{global, map};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind};

const OBJECT: &[u8] = include_bytes!("../../egress-ebpf/egress.bpf.o");

/// Section and program of each hook.
const PROGRAMS: [(&str, &str); 8] = [
    ("cgroup/connect4", "connect4"),
    ("cgroup/connect6", "connect6"),
    ("cgroup/sendmsg4", "sendmsg4"),
    ("cgroup/sendmsg6", "sendmsg6"),
    ("cgroup/sock_release", "sock_release"),
    ("cgroup_skb/egress", "skb_egress"),
    ("cgroup_skb/ingress", "skb_ingress"),
    ("sockops", "sock_ops"),
];

/// BPF_JMP | BPF_EXIT.
const EXIT: u8 = 0x95;
/// BPF_JMP | BPF_CALL.
const CALL: u8 = 0x85;

fn file() -> ElfFile64<'static, Endianness> {
    ElfFile64::parse(OBJECT).expect("the committed object is an ELF file")
}

/// Sections with programs; `.text` holds the compiler's own functions.
fn is_program(section: &impl object::ObjectSection<'static>) -> bool {
    section.kind() == SectionKind::Text && section.size() > 0 && section.name() != Ok(".text")
}

#[test]
fn it_holds_the_programs_that_are_attached_and_no_other() {
    let file = file();
    let mut sections: Vec<_> =
        file.sections().filter(is_program).map(|section| section.name().unwrap().to_owned()).collect();
    sections.sort();
    assert_eq!(sections, PROGRAMS.map(|(section, _)| section));
    for (section, program) in PROGRAMS {
        let index = file.section_by_name(section).unwrap().index();
        let there = file.symbols().any(|s| s.name() == Ok(program) && s.section_index() == Some(index));
        assert!(there, "{program} is not in {section}");
    }
}

#[test]
fn it_holds_the_maps_that_user_space_asks_for() {
    let file = file();
    let section = file.section_by_name(".maps").expect("maps with BTF").index();
    let mut maps: Vec<_> = file
        .symbols()
        .filter(|symbol| symbol.section_index() == Some(section) && symbol.size() > 0)
        .map(|symbol| symbol.name().unwrap())
        .collect();
    maps.sort_unstable();
    assert_eq!(maps, [map::CGROUPS, map::FLOWS, map::LOSSES, map::PAYLOADS, map::SLOTS, map::SOCKETS, map::UDP_PEERS]);
}

#[test]
fn it_holds_the_globals_that_the_loader_sets() {
    let file = file();
    let section = file.section_by_name(".rodata").expect("read-only globals").index();
    for (name, bytes) in [
        (global::WAKE_INTERVAL, 8),
        (global::SAMPLE_INTERVAL, 8),
        (global::PAYLOAD_LIMIT, 4),
        (global::EPHEMERAL_FIRST, 4),
        (global::EPHEMERAL_LAST, 4),
        (global::DNS_PORT, 4),
        (global::DNS_PORT_TOO, 4),
    ] {
        let symbol = file.symbol_by_name(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((symbol.section_index(), symbol.size()), (Some(section), bytes), "{name}");
    }
}

/// The linker's default makes each small copy a call to a byte loop, which multiplies the verifier's work by four.
#[test]
fn no_program_calls_a_byte_loop() {
    let file = file();
    for section in file.sections().filter(is_program) {
        let code = section.data().unwrap();
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(index).unwrap();
            let called = code[usize::try_from(offset).unwrap()] == CALL;
            assert!(!called, "{} calls {:?}", section.name().unwrap(), symbol.name());
        }
    }
}

/// Every way out of a program sets R0 right before, and to 1: anything else blocks traffic on the node.
#[test]
fn every_program_can_only_answer_allow() {
    /// BPF_ALU64 | BPF_MOV | BPF_K and BPF_ALU | BPF_MOV | BPF_K, destination R0.
    const MOVES: [u8; 2] = [0xb7, 0xb4];
    let file = file();
    for section in file.sections().filter(is_program) {
        let code: Vec<&[u8]> = section.data().unwrap().chunks_exact(8).collect();
        let exits: Vec<usize> = (0..code.len()).filter(|&i| code[i][0] == EXIT).collect();
        assert!(!exits.is_empty());
        for exit in exits {
            let before = code[exit - 1];
            let destination = before[1] % 16;
            let sets_r0 = MOVES.contains(&before[0]) && destination == 0;
            let value = i32::from_le_bytes(before[4..8].try_into().unwrap());
            assert!(sets_r0 && value == 1, "{} leaves at {exit} with {before:02x?}", section.name().unwrap());
        }
    }
}

#[test]
fn it_tells_nothing_of_the_machine_that_built_it() {
    let text: Vec<String> = OBJECT
        .split(|byte| !byte.is_ascii_graphic())
        .filter(|word| word.len() > 4)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let sources: Vec<&String> = text.iter().filter(|word| word.contains(".rs")).collect();
    assert!(sources.len() > 5, "line information is there: {sources:?}");
    for word in &text {
        assert!(!word.starts_with('/') || !word[1..].contains('/'), "an absolute path: {word}");
        for trace in ["/home/", "/root/", "/tmp/", ".cargo", "registry"] {
            assert!(!word.contains(trace), "{trace} in {word}");
        }
    }
}

#[test]
fn its_licence_is_one_that_the_kernel_takes_for_gpl() {
    assert_eq!(file().section_by_name("license").unwrap().data().unwrap(), b"GPL\0");
}
