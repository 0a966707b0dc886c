//! weir.inx has what the INF of a KMDF lightweight filter must have.
//!
//! Sources: "Configuring an INF File for a Modifying Filter Driver",
//! "INF Requirements for NDIS Filters", "Specifying WDF Directives in INF
//! Files", "Driver Package Isolation".

use weir_tests::inf::Inf;

const INX: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../inf/weir.inx"));

/// What is wrong with an INF, one line each; nothing for a good one.
fn faults(text: &str) -> Vec<String> {
    let inf = match Inf::parse(text) {
        Ok(inf) => inf,
        Err(e) => return vec![e],
    };
    let mut faults = Vec::new();
    let mut want = |holds: bool, what: &str| {
        if !holds {
            faults.push(what.to_owned());
        }
    };
    let is = |section: &str, name: &str, value: &str| {
        inf.value(section, name)
            .is_some_and(|v| v.eq_ignore_ascii_case(value))
    };

    want(
        is("Version", "Signature", "$Windows NT$"),
        "Version: Signature",
    );
    want(
        is("Version", "Class", "NetService"),
        "Version: Class is NetService",
    );
    want(
        is(
            "Version",
            "ClassGUID",
            "{4D36E974-E325-11CE-BFC1-08002BE10318}",
        ),
        "Version: ClassGUID is NetService's",
    );
    want(is("Version", "PnpLockdown", "1"), "Version: PnpLockdown");
    want(
        inf.value("Version", "CatalogFile")
            .is_some_and(|v| v.ends_with(".cat")),
        "Version: a catalog",
    );
    want(
        inf.value("Version", "Provider")
            .is_some_and(|v| !v.is_empty()),
        "Version: a provider",
    );
    want(
        inf.values("Version", "DriverVer").is_some(),
        "Version: DriverVer for stampinf",
    );

    // Manufacturer -> models -> the install section.
    let maker = inf.section("Manufacturer").and_then(<[_]>::first);
    let models = maker.map(|m| m.values.join(".")).unwrap_or_default();
    let model = inf.section(&models).and_then(<[_]>::first);
    want(
        model.is_some(),
        "Manufacturer names a models section that is there",
    );
    want(
        models.contains("$ARCH$"),
        "the models section is decorated with $ARCH$",
    );
    let install = model
        .and_then(|m| m.values.first())
        .cloned()
        .unwrap_or_default();
    want(
        model
            .and_then(|m| m.values.get(1))
            .is_some_and(|id| id.starts_with("MS_")),
        "the model has a component id",
    );
    want(
        inf.section(&install).is_some(),
        "the install section is there",
    );
    want(
        is(&install, "Characteristics", "0x40000"),
        "Characteristics is NCF_LW_FILTER",
    );
    let guid = inf.value(&install, "NetCfgInstanceId").unwrap_or_default();
    want(
        guid.len() == 38 && guid.starts_with('{') && guid.ends_with('}'),
        "NetCfgInstanceId is a GUID",
    );

    // The filter's description to NDIS.
    let ndi = inf
        .value(&install, "AddReg")
        .map(|s| inf.registry(s))
        .unwrap_or_default();
    let entry = |key: &str, name: &str| ndi.get(&(key.to_owned(), name.to_owned()));
    let text = |key: &str, name: &str| entry(key, name).map(|(_, data)| data.join(","));
    let service = inf
        .values(&format!("{install}.Services"), "AddService")
        .unwrap_or_default();
    let [name, flags, section] = service else {
        faults.push("the install section adds one service".into());
        return faults;
    };
    want(flags == "2", "AddService: SPSVCINST_ASSOCSERVICE");
    want(
        text("Ndi", "Service").as_ref() == Some(name),
        "Ndi: Service is the service added",
    );
    want(
        entry("Ndi", "CoServices") == Some(&(0x0001_0000, vec![name.clone()])),
        "Ndi: CoServices is a MULTI_SZ with the service",
    );
    want(
        text("Ndi", "FilterClass").is_some_and(|c| CLASSES.contains(&c.as_str())),
        "Ndi: FilterClass is one NDIS knows",
    );
    want(
        entry("Ndi", "FilterType") == Some(&(0x0001_0001, vec!["2".into()])),
        "Ndi: FilterType is modifying",
    );
    want(
        entry("Ndi", "FilterRunType") == Some(&(0x0001_0001, vec!["2".into()])),
        "Ndi: FilterRunType is optional",
    );
    want(
        text("Ndi\\Interfaces", "UpperRange").as_deref() == Some("noupper"),
        "Ndi\\Interfaces: UpperRange",
    );
    want(
        text("Ndi\\Interfaces", "LowerRange").as_deref() == Some("nolower"),
        "Ndi\\Interfaces: LowerRange",
    );
    want(
        text("Ndi\\Interfaces", "FilterMediaTypes").is_some_and(|m| m.contains("ethernet")),
        "Ndi\\Interfaces: FilterMediaTypes has ethernet",
    );

    // The service.
    want(
        is(section, "ServiceType", "1"),
        "service: SERVICE_KERNEL_DRIVER",
    );
    want(
        is(section, "StartType", "1"),
        "service: SERVICE_SYSTEM_START",
    );
    want(
        is(section, "ErrorControl", "1"),
        "service: SERVICE_ERROR_NORMAL",
    );
    want(
        is(section, "LoadOrderGroup", "NDIS"),
        "service: LoadOrderGroup NDIS",
    );
    want(
        is(section, "ServiceBinary", &format!("%12%\\{name}.sys")),
        "service: ServiceBinary in DIRID 12",
    );
    let parameters = inf
        .value(section, "AddReg")
        .map(|s| inf.registry(s))
        .unwrap_or_default();
    want(
        parameters.keys().all(|(key, _)| key == "Parameters"),
        "service: values under Parameters only",
    );
    want(
        inf.values(&format!("{install}.Remove.Services"), "DelService")
            .is_some_and(|v| v.first() == Some(name)),
        "the service is deleted at removal",
    );

    // The file: copied, with its place on the disk and in the system.
    let copy = inf.value(&install, "CopyFiles").unwrap_or_default();
    let file = format!("{name}.sys");
    want(
        inf.section(copy)
            .is_some_and(|s| s.iter().any(|e| e.values.first() == Some(&file))),
        "the image is copied",
    );
    want(
        is("DestinationDirs", copy, "12"),
        "the image goes to DIRID 12",
    );
    let disk = inf.value("SourceDisksFiles", &file).unwrap_or_default();
    want(
        inf.value("SourceDisksNames", disk).is_some(),
        "the image has a source disk",
    );

    // KMDF.
    let wdf = inf
        .values(&format!("{install}.Wdf"), "KmdfService")
        .unwrap_or_default();
    want(wdf.first() == Some(name), "Wdf: KmdfService is the service");
    want(
        wdf.get(1)
            .is_some_and(|s| is(s, "KmdfLibraryVersion", "$KMDFVERSION$")),
        "Wdf: KmdfLibraryVersion for stampinf",
    );
    faults
}

/// The classes of modifying filters, in the order NDIS stacks them.
const CLASSES: &[&str] = &[
    "scheduler",
    "encryption",
    "compression",
    "vpn",
    "loadbalance",
    "failover",
    "diagnostic",
    "custom",
    "provider_address",
];

#[test]
fn weir_inx_has_all_it_must_have() {
    assert_eq!(faults(INX), Vec::<String>::new());
}

/// Each line that carries meaning, taken out, is missed: the check can fail.
#[test]
fn each_line_is_needed() {
    let may_go = [
        "HelpText",
        "DisplayName",
        "Description",
        "NdisImPlatformBindingOptions",
        "DefaultDestDir",
        "WeirServiceName",
        "WeirHelpText",
        "AddReg         = Weir.Parameters",
    ];
    for (number, line) in INX.lines().enumerate() {
        let bare = line.split(';').next().unwrap_or_default().trim();
        // A heading gone, its entries belong to the section before, where some are as good.
        if bare.is_empty() || bare.starts_with('[') || may_go.iter().any(|m| bare.contains(m)) {
            continue;
        }
        let without: String = INX
            .lines()
            .enumerate()
            .filter(|(n, _)| *n != number)
            .map(|(_, l)| format!("{l}\n"))
            .collect();
        assert!(
            !faults(&without).is_empty(),
            "without line {}: {line}",
            number + 1
        );
    }
}

#[test]
fn what_is_no_inf_is_refused() {
    assert!(Inf::parse("name = 1").is_err());
    assert!(Inf::parse("[Section\n").is_err());
    assert!(Inf::parse("[S]\nx = %missing%\n").is_err());
    assert!(Inf::parse("[Strings]\na = 1\na = 2\n").is_err());
    assert!(!faults("").is_empty());
}

/// NDIS matches the filter that registers with the one that was installed by
/// this GUID: the two must be one.
#[test]
fn the_driver_registers_as_what_the_inf_installs() {
    const FILTER: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../driver/src/ndis/filter.rs"
    ));
    let inf = Inf::parse(INX).expect("the INF parses");
    let guid = inf.value("Install", "NetCfgInstanceId").expect("a GUID");
    assert!(
        FILTER.contains(&format!("UNIQUE_NAME: &str = \"{guid}\"")),
        "{guid}"
    );
}
