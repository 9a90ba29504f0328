//! The types of columns, as ODBC and JDBC name them: `GetXdbcTypeInfo`.

use std::sync::LazyLock;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_flight::{
    error::FlightError,
    sql::{
        CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode,
        metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder},
    },
};

use super::{super::super::status::Refusal, metadata::unbuilt};

static TYPES: LazyLock<Result<XdbcTypeInfoData, FlightError>> = LazyLock::new(built);

pub(super) fn schema() -> SchemaRef {
    XdbcTypeInfoDataBuilder::new().schema()
}

/// What is asked for, of the types there are; no type asked for: all of them.
pub(super) fn rows(asked: CommandGetXdbcTypeInfo) -> Result<RecordBatch, Refusal> {
    let types = TYPES.as_ref().map_err(unbuilt)?;
    asked.into_builder(types).build().map_err(|e| unbuilt(&e))
}

fn built() -> Result<XdbcTypeInfoData, FlightError> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, bits) in [
        ("TINYINT", XdbcDataType::XdbcTinyint, 8),
        ("SMALLINT", XdbcDataType::XdbcSmallint, 16),
        ("INT", XdbcDataType::XdbcInteger, 32),
        ("BIGINT", XdbcDataType::XdbcBigint, 64),
    ] {
        let number = |name: &str, unsigned| XdbcTypeInfo {
            column_size: Some(bits),
            unsigned_attribute: Some(unsigned),
            fixed_prec_scale: true,
            minimum_scale: Some(0),
            maximum_scale: Some(0),
            num_prec_radix: Some(2),
            auto_increment: Some(false),
            ..type_of(name, data_type)
        };
        types.append(number(name, false));
        types.append(number(&format!("{name} UNSIGNED"), true));
    }
    for (name, data_type, bits) in [
        ("REAL", XdbcDataType::XdbcReal, 24),
        ("DOUBLE", XdbcDataType::XdbcDouble, 53),
    ] {
        types.append(XdbcTypeInfo {
            column_size: Some(bits),
            unsigned_attribute: Some(false),
            num_prec_radix: Some(2),
            auto_increment: Some(false),
            ..type_of(name, data_type)
        });
    }
    types.append(XdbcTypeInfo {
        column_size: Some(76),
        create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
        unsigned_attribute: Some(false),
        minimum_scale: Some(0),
        maximum_scale: Some(76),
        num_prec_radix: Some(10),
        auto_increment: Some(false),
        ..type_of("DECIMAL", XdbcDataType::XdbcDecimal)
    });
    types.append(type_of("BOOLEAN", XdbcDataType::XdbcBit));
    types.append(XdbcTypeInfo {
        literal_prefix: Some("'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        case_sensitive: true,
        ..type_of("VARCHAR", XdbcDataType::XdbcVarchar)
    });
    types.append(XdbcTypeInfo {
        literal_prefix: Some("x'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..type_of("BYTEA", XdbcDataType::XdbcVarbinary)
    });
    for (name, data_type, subcode, digits) in [
        (
            "DATE",
            XdbcDataType::XdbcDate,
            // The number of a date in ODBC; the protocol has no name for it.
            XdbcDatetimeSubcode::XdbcSubcodeYear,
            10,
        ),
        (
            "TIME",
            XdbcDataType::XdbcTime,
            XdbcDatetimeSubcode::XdbcSubcodeTime,
            18,
        ),
        (
            "TIMESTAMP",
            XdbcDataType::XdbcTimestamp,
            XdbcDatetimeSubcode::XdbcSubcodeTimestamp,
            29,
        ),
    ] {
        types.append(XdbcTypeInfo {
            column_size: Some(digits),
            literal_prefix: Some(format!("{name} '")),
            literal_suffix: Some("'".to_owned()),
            sql_data_type: XdbcDataType::XdbcDatetime,
            datetime_subcode: Some(subcode),
            ..type_of(name, data_type)
        });
    }
    types.build()
}

/// A type with what most have in common.
fn type_of(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}
