//! What there is: catalogs, schemas, tables, keys, what the server can do, and its types.

use std::collections::BTreeSet;

use annals::{AsOf, Batch, NewEvent};
use arrow::{
    array::{Array, AsArray, RecordBatch, UInt32Array},
    datatypes::{DataType, Field, Int32Type, Schema, UInt8Type, UInt32Type},
};
use arrow_flight::{
    Ticket,
    sql::{
        CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
        CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
        CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo, XdbcDataType,
    },
};

use super::stubs::{bytes, get, info, past, rows, server, ticket};
use crate::flight::stubs::Stub;

fn texts(rows: &RecordBatch, column: usize) -> Vec<Option<String>> {
    let texts = rows.column(column).as_string::<i32>().iter();
    texts.map(|text| text.map(str::to_owned)).collect()
}

fn named(rows: &RecordBatch, column: usize) -> Vec<String> {
    texts(rows, column).into_iter().flatten().collect()
}

/// The tables that a command finds, as `schema.table`.
async fn tables(stub: &Stub, asked: &CommandGetTables) -> Vec<String> {
    let found = rows(stub, asked).await.unwrap();
    let names = named(&found, 1).into_iter().zip(named(&found, 2));
    names
        .map(|(schema, table)| format!("{schema}.{table}"))
        .collect()
}

fn pattern(schema: Option<&str>, table: Option<&str>) -> CommandGetTables {
    CommandGetTables {
        db_schema_filter_pattern: schema.map(str::to_owned),
        table_name_filter_pattern: table.map(str::to_owned),
        ..CommandGetTables::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_and_schemas_are_listed_in_order() {
    let (server, _, stub) = server().await;
    let catalogs = rows(&stub, &CommandGetCatalogs {}).await.unwrap();
    assert_eq!(named(&catalogs, 0), ["default"]);
    let schemas = async |catalog: Option<&str>, pattern: Option<&str>| {
        let asked = CommandGetDbSchemas {
            catalog: catalog.map(str::to_owned),
            db_schema_filter_pattern: pattern.map(str::to_owned),
        };
        named(&rows(&stub, &asked).await.unwrap(), 1)
    };
    let all = ["annals", "information_schema", "types"];
    assert_eq!(schemas(None, None).await, all);
    assert_eq!(schemas(Some("default"), Some("%")).await, all);
    assert_eq!(schemas(None, Some("_nnal%")).await, ["annals"]);
    assert!(schemas(Some(""), None).await.is_empty());
    assert!(schemas(Some("other"), None).await.is_empty());
    let types = rows(&stub, &CommandGetTableTypes {}).await.unwrap();
    assert_eq!(named(&types, 0), ["TABLE", "VIEW"]);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_found_by_patterns_types_and_catalog() {
    let (server, _, stub) = server().await;
    let all = tables(&stub, &CommandGetTables::default()).await;
    assert_eq!(all[..2], ["annals.entities", "annals.events"]);
    assert_eq!(all[9..], ["types.order.paid", "types.order_placed"]);
    for (asked, found) in [
        (pattern(Some("types"), None), &all[9..]),
        (pattern(None, Some("e%")), &all[..2]),
        (pattern(Some("t%"), Some("order\\_%")), &all[10..]),
        (pattern(None, Some("order_p%")), &all[9..]),
        (pattern(None, Some("order.paid")), &all[9..10]),
        (pattern(Some("annals"), Some("order.paid")), &[]),
        (pattern(Some(""), None), &[]),
    ] {
        assert_eq!(tables(&stub, &asked).await, found, "{asked:?}");
    }
    let of_types = |types: &[&str]| CommandGetTables {
        table_types: types.iter().map(ToString::to_string).collect(),
        ..CommandGetTables::default()
    };
    assert_eq!(tables(&stub, &of_types(&["VIEW"])).await, all[2..9]);
    assert_eq!(tables(&stub, &of_types(&["VIEW", "TABLE"])).await, all);
    assert!(tables(&stub, &of_types(&["INDEX"])).await.is_empty());
    let other = CommandGetTables {
        catalog: Some("other".to_owned()),
        ..CommandGetTables::default()
    };
    assert!(tables(&stub, &other).await.is_empty());
    server.server.shutdown().await;
}

/// More types than a page of them has.
#[tokio::test(flavor = "multi_thread")]
async fn many_types_are_many_tables_those_of_the_past() {
    const TYPES: usize = 2_300;
    let (server, tenant, stub) = server().await;
    let head = tenant.head();
    let events = (0..TYPES).map(|n| NewEvent::new("e", format!("type-{n:04}"), "{}"));
    tenant.append(Batch::new(events)).await.unwrap();
    let asked = CommandGetTables {
        include_schema: true,
        ..pattern(Some("types"), None)
    };
    let found = rows(&stub, &asked).await.unwrap();
    let names = named(&found, 2);
    assert_eq!(names.len(), TYPES + 2);
    assert!(names.is_sorted());
    assert_eq!(
        tables(&stub, &pattern(None, Some("type-1_00"))).await.len(),
        10
    );
    let last = tables(&stub, &pattern(None, Some("%2299"))).await;
    assert_eq!(last, ["types.type-2299"]);

    let then = past(Ticket::new(bytes(&asked)), AsOf::Position(head));
    let mut messages = stub.clone().do_get(then).await.unwrap().into_inner();
    let mut count = 0;
    while messages.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 2, "the schema, and two tables");
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_those_of_the_log() {
    let (server, _, stub) = server().await;
    let primary = async |schema: Option<&str>, table: &str| {
        let asked = CommandGetPrimaryKeys {
            catalog: None,
            db_schema: schema.map(str::to_owned),
            table: table.to_owned(),
        };
        let found = rows(&stub, &asked).await.unwrap();
        let names: Vec<_> = found
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        assert_eq!(
            names,
            [
                "catalog_name",
                "db_schema_name",
                "table_name",
                "column_name",
                "key_name",
                "key_sequence"
            ]
        );
        named(&found, 1)
            .into_iter()
            .zip(named(&found, 3))
            .collect::<Vec<_>>()
    };
    let key = |schema: &str, column: &str| vec![(schema.to_owned(), column.to_owned())];
    assert_eq!(primary(None, "events").await, key("annals", "position"));
    assert_eq!(
        primary(Some("annals"), "entities").await,
        key("annals", "entity_id")
    );
    assert_eq!(primary(None, "order.paid").await, key("types", "position"));
    assert_eq!(primary(Some("annals"), "order.paid").await, []);
    assert_eq!(primary(None, "order").await, []);
    assert_eq!(primary(None, "").await, []);

    let foreign = [
        rows(
            &stub,
            &CommandGetExportedKeys {
                table: "entities".to_owned(),
                ..CommandGetExportedKeys::default()
            },
        )
        .await
        .unwrap(),
        rows(
            &stub,
            &CommandGetImportedKeys {
                db_schema: Some("annals".to_owned()),
                table: "events".to_owned(),
                ..CommandGetImportedKeys::default()
            },
        )
        .await
        .unwrap(),
        rows(
            &stub,
            &CommandGetCrossReference {
                pk_table: "entities".to_owned(),
                fk_table: "events".to_owned(),
                ..CommandGetCrossReference::default()
            },
        )
        .await
        .unwrap(),
    ];
    for found in &foreign {
        assert_eq!(found.num_rows(), 1);
        let values: Vec<_> = (0..8).flat_map(|column| named(found, column)).collect();
        assert_eq!(
            values,
            [
                "default",
                "annals",
                "entities",
                "entity_id",
                "default",
                "annals",
                "events",
                "entity_id"
            ]
        );
        assert_eq!(found.column(8).as_primitive::<Int32Type>().value(0), 1);
        assert_eq!(found.column(11).as_primitive::<UInt8Type>().value(0), 3);
    }
    let none = CommandGetCrossReference {
        pk_table: "events".to_owned(),
        fk_table: "entities".to_owned(),
        ..CommandGetCrossReference::default()
    };
    assert_eq!(rows(&stub, &none).await.unwrap().num_rows(), 0);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_can_do_is_told_all_or_as_asked() {
    let (server, _, stub) = server().await;
    let told = async |codes: &[u32]| {
        let asked = CommandGetSqlInfo {
            info: codes.to_vec(),
        };
        rows(&stub, &asked).await.unwrap()
    };
    let codes = |rows: &RecordBatch| {
        let codes = rows.column(0).as_primitive::<UInt32Type>();
        codes.values().iter().copied().collect::<BTreeSet<_>>()
    };
    let all = told(&[]).await;
    // Drivers take what is missing for a value of their own, or fail on it; Substrait has no versions here.
    let known: BTreeSet<_> = (0..1_000_u32)
        .filter(|code| SqlInfo::try_from(code.cast_signed()).is_ok())
        .collect();
    let without: Vec<_> = known.difference(&codes(&all)).copied().collect();
    assert_eq!(
        without,
        [
            SqlInfo::FlightSqlServerSubstraitMinVersion as u32,
            SqlInfo::FlightSqlServerSubstraitMaxVersion as u32
        ]
    );
    assert_eq!(codes(&told(&[8, 0, 8]).await), BTreeSet::from([0, 8]));
    assert_eq!(told(&[77_777, u32::MAX]).await.num_rows(), 0);
    assert_eq!(codes(&told(&[77_777, 3]).await), BTreeSet::from([3]));
    let many: Vec<u32> = (0..100_000).collect();
    assert_eq!(told(&many).await, all);

    let value = |code: SqlInfo| {
        let at: &UInt32Array = all.column(0).as_primitive();
        let at = at.values().iter().position(|found| *found == code as u32);
        let values = all.column(1).as_union();
        let at = at.unwrap();
        let child = values.child(values.type_id(at));
        child.slice(values.value_offset(at), 1)
    };
    let name = value(SqlInfo::FlightSqlServerName);
    assert_eq!(name.as_string::<i32>().value(0), "Annals");
    let transactions = value(SqlInfo::FlightSqlServerTransaction);
    assert_eq!(transactions.as_primitive::<Int32Type>().value(0), 0);
    assert!(
        value(SqlInfo::FlightSqlServerBulkIngestion)
            .as_boolean()
            .value(0)
    );
    assert!(
        !value(SqlInfo::SqlTransactionsSupported)
            .as_boolean()
            .value(0)
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_told_all_or_one() {
    let (server, _, stub) = server().await;
    let told = async |data_type| {
        rows(&stub, &CommandGetXdbcTypeInfo { data_type })
            .await
            .unwrap()
    };
    let all = told(None).await;
    let numbers = all.column(1).as_primitive::<Int32Type>().values();
    assert!(all.num_rows() > 10 && numbers.is_sorted());
    let text = told(Some(XdbcDataType::XdbcVarchar as i32)).await;
    assert_eq!(texts(&text, 0), [Some("VARCHAR".to_owned())]);
    assert_eq!(told(Some(12_345)).await.num_rows(), 0);
    server.server.shutdown().await;
}

/// Drivers compare them with their own.
#[tokio::test(flavor = "multi_thread")]
async fn schemas_of_metadata_are_those_of_the_protocol() {
    let (server, _, stub) = server().await;
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let told = info(&stub, &CommandGetCatalogs {}).await.unwrap();
    assert_eq!(
        *get(&stub, ticket(&told)).await.unwrap().schema(),
        Schema::new(vec![text("catalog_name", false)])
    );
    let schemas = rows(&stub, &CommandGetDbSchemas::default()).await.unwrap();
    assert_eq!(
        *schemas.schema(),
        Schema::new(vec![
            text("catalog_name", true),
            text("db_schema_name", false)
        ])
    );
    let mut columns = vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("table_type", false),
    ];
    let tables = rows(&stub, &CommandGetTables::default()).await.unwrap();
    assert_eq!(*tables.schema(), Schema::new(columns.clone()));
    columns.push(Field::new("table_schema", DataType::Binary, false));
    let asked = CommandGetTables {
        include_schema: true,
        ..CommandGetTables::default()
    };
    let tables = rows(&stub, &asked).await.unwrap();
    assert_eq!(*tables.schema(), Schema::new(columns));
    server.server.shutdown().await;
}
