//! Reads the board file (docs/board-file.md) and writes what the firmware needs of it: `board.rs` with constants, and
//! one `memory.x` for each of the two programs. A board file that does not add up stops the build.

use std::{env, fmt::Write as _, fs, path::Path, path::PathBuf};

#[path = "build/schema.rs"]
mod schema;
use schema::{Board, Span};

/// The board that is built when `AMPOULE_BOARD` names none.
const DEFAULT_BOARD: &str = "mps2-an386";

fn main() {
    let name = env::var("AMPOULE_BOARD").unwrap_or_else(|_| DEFAULT_BOARD.into());
    let file = manifest_dir().join("../../boards").join(format!("{name}.toml"));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
    let board: Board = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    if let Err(problem) = board.check() {
        panic!("{}: {problem}", file.display());
    }

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write(&out.join("board.rs"), &constants(&board));
    write(&out.join("bootloader/memory.x"), &memory(&board, board.memory.code));
    write(&out.join("app/memory.x"), &memory(&board, app_code(&board)));
    // cortex-m-rt asks for names of interrupt handlers; we handle none, we wait for pending ones (src/idle.rs).
    write(&out.join("device.x"), "");

    for program in ["bootloader", "app"] {
        println!("cargo:rustc-link-arg-bin={program}=-L{}", out.join(program).display());
    }
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed={}", file.display());
    for script in ["build.rs", "build/schema.rs"] {
        println!("cargo:rerun-if-changed={script}");
    }
    for variable in ["AMPOULE_BOARD", "AMPOULE_APP_VERSION", "AMPOULE_APP_BEHAVIOUR"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
}

/// Where the application's code stands: in the primary slot behind the image header.
fn app_code(board: &Board) -> Span {
    let slot = board.flash.regions.primary;
    Span {
        start: board.memory.flash.start + slot.start + board.image.header_size,
        size: slot.size - board.image.header_size,
    }
}

fn memory(board: &Board, code: Span) -> String {
    let ram = board.memory.ram;
    format!(
        "MEMORY\n{{\n  FLASH : ORIGIN = {:#010x}, LENGTH = {:#x}\n  RAM : ORIGIN = {:#010x}, LENGTH = {:#x}\n}}\n",
        code.start, code.size, ram.start, ram.size
    )
}

fn constants(board: &Board) -> String {
    let mut text = String::new();
    let mut line = |doc: &str, item: String| writeln!(text, "/// {doc}\n{item}").expect("a string takes all");
    let number = |name: &str, value: u32| format!("pub const {name}: u32 = {value:#x};");
    let size = |name: &str, value: u32| format!("pub const {name}: usize = {value};");
    let small = |name: &str, value: u8| format!("pub const {name}: u8 = {value};");
    let string = |name: &str, value: &str| format!("pub const {name}: &str = {value:?};");
    let id = |name: &str, value: [u8; 16]| format!("pub const {name}: [u8; 16] = {value:?};");

    line("Name of the board file.", string("NAME", &board.board.name));
    line(
        "Name of the product line; a trust root names it too.",
        string("PRODUCT_LINE", &board.identity.product_line),
    );
    line(
        "Vendor id: UUIDv5 of the vendor's domain (profile section 11).",
        id("VENDOR_ID", board.vendor_id()),
    );
    line(
        "Class id: UUIDv5 of the model name under the vendor id (profile section 11).",
        id("CLASS_ID", board.class_id()),
    );
    line(
        "Core, timer and watchdog clock, in Hz.",
        number("CLOCK_HZ", board.board.clock_hz),
    );

    line("Address where RAM begins.", number("RAM_START", board.memory.ram.start));
    line(
        "Bytes of RAM, stack included.",
        number("RAM_SIZE", board.memory.ram.size),
    );
    line(
        "Address of the words that survive a reset.",
        number("RETAINED_START", board.memory.retained.start),
    );
    line(
        "Bytes that survive a reset.",
        number("RETAINED_SIZE", board.memory.retained.size),
    );
    line(
        "Address where flash offset 0 is mapped.",
        number("FLASH_START", board.memory.flash.start),
    );
    line("Bytes of flash.", number("FLASH_SIZE", board.memory.flash.size));

    line(
        "Bytes of one flash write unit.",
        number("WRITE_SIZE", board.flash.write_size),
    );
    line(
        "Bytes of one flash sector.",
        number("SECTOR_SIZE", board.flash.sector_size),
    );
    line(
        "What an erased byte of flash reads as.",
        format!("pub const ERASED: u8 = {:#04x};", board.flash.erased),
    );
    for (name, region) in board.flash.regions.named() {
        let constant = name.to_uppercase().replace('-', "_");
        let Span { start, size } = region;
        line(
            &format!("Region `{name}` of the flash."),
            format!("pub const {constant}: Area = Area {{ start: {start:#x}, len: {size:#x} }};"),
        );
    }

    line(
        "Bytes from the start of a slot to the image's vector table.",
        number("HEADER_SIZE", board.image.header_size),
    );
    line(
        "The vector table stands at a multiple of this, in bytes.",
        number("VECTOR_ALIGN", schema::VECTOR_ALIGN),
    );
    line(
        "Sectors that the trailer's status area is made for.",
        number("MAX_SECTORS", board.image.max_sectors),
    );

    line("Largest envelope head, in bytes.", size("HEAD_MAX", board.limits.head));
    line(
        "Largest manifest, in bytes.",
        number("MANIFEST_MAX", board.limits.manifest),
    );
    line(
        "Largest chunk of a payload, in bytes.",
        size("CHUNK_MAX", board.limits.chunk),
    );
    line(
        "Largest trust root file, in bytes.",
        size("ROOT_MAX", board.limits.root),
    );
    line(
        "Largest revocation list or time file, in bytes.",
        size("LIST_MAX", board.limits.list),
    );
    line("Most addresses of one manifest.", small("URIS_MAX", board.limits.uris));
    line(
        "Most components of one manifest.",
        small("COMPONENTS_MAX", board.limits.components),
    );

    line(
        "Seconds from the start of a trial to its confirmation.",
        number("TRIAL_DEADLINE_S", board.trial.deadline_s),
    );
    line(
        "Seconds without a sign of life until a confirmed application is reset.",
        number("WATCHDOG_S", board.trial.watchdog_s),
    );

    line(
        "Number of the UART that prints.",
        number("CONSOLE_UART", board.console.uart),
    );
    line(
        "Number of the UART that speaks SMP.",
        number("SMP_UART", board.smp.uart),
    );
    line("Largest SMP message, in bytes.", size("SMP_BUFFER", board.smp.buffer));
    line(
        "SMP messages that may be under way at once.",
        number("SMP_BUFFERS", board.smp.buffers),
    );
    text
}

fn manifest_dir() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR")
        .expect("cargo sets CARGO_MANIFEST_DIR")
        .into()
}

fn write(path: &Path, text: &str) {
    let folder = path.parent().expect("a file stands in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}
