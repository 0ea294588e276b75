"""What is known of each table of the UCI family: columns with units, origin, cautions, the file.

Every SHA-256 is that of the file this was developed and tested with. The addresses, where no
network was to be had for a download:

* bnn_priors: the folder is that from which ``bnn_priors/data/UCI/uci.py`` reads at this commit, the
  table names are those its ``exp_utils.py`` allows; the bytes behind the addresses were not seen.
* MILE (the public fork that keeps its history): ``ionosphere.data`` has the length and, where
  compared, the rows of our file. ``airfoil.data`` and ``bikesharing.data`` are the paths in its
  experiments' settings; their bytes were not seen. A file that differs is refused by its hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bnnzoo.datasets._remote import RemoteFile

_BNN_PRIORS = (
    "https://raw.githubusercontent.com/ratschlab/bnn_priors/"
    "142eef39808957866522017cabf8cc4ae82efd5d/bnn_priors/data/UCI/{}/data.txt"
)
_MILE = "https://raw.githubusercontent.com/zhiyuan-yang/MILE/{}/data/{}.data"
_MILE_RELEASE = "cca0430b404b3e6574610159783d77fbf06c25c4"
_MILE_FIRST = "c70994272ad1c065ef249cee4c63139e4cc4548b"


@dataclass(frozen=True)
class Table:
    """One table: whitespace-separated numbers, the target in the last column that is used.

    Attributes:
        name: without the prefix ``uci/``.
        summary: one line for the card.
        header: names of the features and, last, of the target, with spaces between.
        units: of the columns, in words.
        reference: where the data come from.
        file: the published file.
        rows: number of rows.
        notes: cautions, in full sentences.
        classes: names of the classes 0, 1...; empty for regression.
        splits: number of splits of the protocol.
        published: whether the splits are those of the literature, rather than ours.
        unused: columns after the target that the file has besides.
    """

    name: str
    summary: str
    header: str
    units: str
    reference: str
    file: RemoteFile = field(repr=False)
    rows: int
    notes: str = ""
    classes: tuple[str, ...] = ()
    splits: int = 20
    published: bool = True
    unused: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features and, last, of the target."""
        return tuple(self.header.split())


def _file(name: str, sha256: str, size: int, url: str = "") -> RemoteFile:
    return RemoteFile(f"uci/{name}.txt", url or _BNN_PRIORS.format(name), sha256, size)


_ALL = (
    Table(
        "boston",
        "506 areas of Boston in the 1970s, 13 features: median value of homes.",
        "CRIM ZN INDUS CHAS NOX RM AGE DIS RAD TAX PTRATIO B LSTAT MEDV",
        "MEDV in 1000 US dollars; CRIM crimes a head; ZN, INDUS, AGE, LSTAT in %; NOX in 0.1 ppm;"
        " RM rooms a dwelling; DIS a weighted distance; TAX dollars per 10,000; CHAS 0 or 1.",
        "Harrison & Rubinfeld (1978), Hedonic housing prices and the demand for clean air.",
        _file("boston", "baadf72995725d76efe787b664e1f083388c79ba21ef9a7990d87f774184735a", 49_082),
        506,
        "Deprecated for ethical reasons: column B is a function of the share of Black residents"
        " that assumes that segregation raises house prices. Use it only to reproduce published"
        " tables.",
    ),
    Table(
        "concrete",
        "1030 mixtures of concrete, 8 features: compressive strength.",
        "cement slag fly_ash water superplasticizer coarse_aggregate fine_aggregate age strength",
        "Strength in MPa, age in days, all others in kg a cubic metre.",
        "Yeh (1998), Modeling of strength of high-performance concrete; UCI.",
        _file(
            "concrete", "43d290fd2c2a399ad7e62c45cab5337ba94ece69ebdcf5875aa668cb886243de", 57_858
        ),
        1030,
        "25 rows repeat another one.",
    ),
    Table(
        "energy",
        "768 simulated buildings, 8 features: heating load.",
        "relative_compactness surface_area wall_area roof_area overall_height orientation "
        "glazing_area glazing_area_distribution heating_load",
        "Load in kWh a square metre, areas in square metres (glazing: a fraction of the floor),"
        " height in m, orientation and distribution are codes.",
        "Tsanas & Xifara (2012), Quantitative estimation of energy performance; UCI.",
        _file("energy", "7f8bf024cea437267d56be99b7af7bb3faebec8a7bccfbb20d06d52d9372a950", 35_309),
        768,
        "The target is the heating load, Y1 of UCI; the cooling load is not in this file.",
    ),
    Table(
        "kin8nm",
        "8192 simulated poses of an 8-link robot arm: distance of its hand from a target.",
        "theta1 theta2 theta3 theta4 theta5 theta6 theta7 theta8 distance",
        "Joint angles in radians.",
        "Ghahramani (1996), the kin family of DELVE.",
        _file(
            "kin8nm", "a694ce0c7a21390f2bd2a205c36f2482cd974637a207038696716e22f3bbe810", 1_187_840
        ),
        8192,
    ),
    Table(
        "naval",
        "11934 simulated states of a frigate's gas turbine, 16 features: decay of the compressor.",
        "lever_position ship_speed turbine_shaft_torque turbine_rate generator_rate "
        "starboard_propeller_torque port_propeller_torque turbine_exit_temperature "
        "compressor_inlet_temperature compressor_outlet_temperature turbine_exit_pressure "
        "compressor_inlet_pressure compressor_outlet_pressure exhaust_pressure "
        "injection_control fuel_flow compressor_decay",
        "Speed in knots, torques in kN m (shaft) and kN (propellers), rates in 1/min, temperatures"
        " in degrees Celsius, pressures in bar, injection in %, fuel in kg/s.",
        "Coraddu et al. (2016), Machine learning approaches for improving condition-based"
        " maintenance of naval propulsion plants; UCI.",
        _file(
            "naval", "de0ea69da1efaab8b9655ffed828547d10dd68c1fb8c6e0163e6a988def393a6", 3_448_926
        ),
        11934,
        "Two features are constant. The file's last column, the turbine's decay, is not used.",
        unused=1,
    ),
    Table(
        "power",
        "9568 hours of a combined-cycle power plant, 4 features: electric output.",
        "temperature exhaust_vacuum pressure humidity output",
        "Output in MW, temperature in degrees Celsius, vacuum in cm Hg, pressure in millibar,"
        " relative humidity in %.",
        "Tufekci (2014), Prediction of full load electrical power output; UCI.",
        _file("power", "daebd20c408dfc5c4979604f240e891be162c3a5d00d662380aa669044a1fb31", 308_680),
        9568,
        "41 rows repeat another one.",
    ),
    Table(
        "protein",
        "45730 decoys of protein structures, 9 features: distance from the native structure.",
        "F1 F2 F3 F4 F5 F6 F7 F8 F9 RMSD",
        "RMSD in angstrom; F1 total surface, F2 exposed non-polar area, F3 and F4 fractions of it,"
        " F5 mass-weighted area, F6 deviation from the standard area, F7 Euclidean distance,"
        " F8 penalty of secondary structure, F9 spatial distribution constraints.",
        "Rana (2013), Physicochemical properties of protein tertiary structure (CASP); UCI.",
        _file(
            "protein", "d35f332707e8a73f21e021039250a1e7b26e14f7dd826a0337ffa8e8e48b9727", 3_528_658
        ),
        45730,
        "1711 rows repeat another one, so a test row may be a training row. Published tables use 5"
        " splits.",
        splits=5,
    ),
    Table(
        "wine",
        "1599 red wines, 11 chemical measurements: quality.",
        "fixed_acidity volatile_acidity citric_acid residual_sugar chlorides "
        "free_sulfur_dioxide total_sulfur_dioxide density pH sulphates alcohol quality",
        "Quality is a grade, 3 to 8; acids, sugar, chlorides and sulphates in g/l, sulfur dioxide"
        " in mg/l, density in g/ml, alcohol in % by volume.",
        "Cortez et al. (2009), Modeling wine preferences by data mining; UCI.",
        _file("wine", "3ba41eaf4ab562088cf47b5c9dca2b4de2a330c3ee38a7920b4527a09574d5c1", 84_027),
        1599,
        "240 rows repeat another one, so a test row may be a training row. Taken as a regression,"
        " as the literature does, though the target has six values.",
    ),
    Table(
        "yacht",
        "308 towing tests of yacht hulls, 6 features: residuary resistance.",
        "buoyancy_position prismatic_coefficient length_displacement beam_draught length_beam "
        "froude_number resistance",
        "All without dimension; resistance is that a unit weight of displacement.",
        "Gerritsma, Onnink & Versluis (1981), Delft ship hydromechanics series; UCI.",
        _file("yacht", "00dfecc0fc01ddd4c90b558a3ac11b246df8ebcfea130724223475a9a67f0ea1", 11_487),
        308,
    ),
    Table(
        "airfoil",
        "1503 wind-tunnel tests of airfoil blades, 5 features: sound pressure level.",
        "frequency angle_of_attack chord_length free_stream_velocity displacement_thickness "
        "sound_pressure",
        "Sound in dB, frequency in Hz, angle in degrees, lengths in m, velocity in m/s.",
        "Brooks, Pope & Marcolini (1989), Airfoil self-noise and prediction, NASA; UCI.",
        _file(
            "airfoil",
            "3c5a45dcbb5f7cece50cb0163076b35421d80677cd0e773cfeddc5e5c38ed499",
            58_334,
            _MILE.format(_MILE_RELEASE, "airfoil"),
        ),
        1503,
        published=False,
    ),
    Table(
        "bikesharing",
        "17379 hours of bicycle hire in Washington, 12 features: number of bicycles hired.",
        "instant yr mnth hr holiday weekday workingday weathersit temp atemp hum windspeed count",
        "temp, atemp, hum and windspeed are scaled to 0..1 by their publishers; yr 0 is 2011; the"
        " others are codes that UCI documents.",
        "Fanaee-T & Gama (2014), Event labeling combining ensemble detectors; UCI.",
        _file(
            "bikesharing",
            "48d3828986f1b06610a1a92441ddd58b3132a60d179a66611e43cde811036889",
            806_950,
            _MILE.format(_MILE_RELEASE, "bikesharing"),
        ),
        17379,
        "The feature 'instant' is the number of the hour, so a random split interpolates in time.",
        published=False,
    ),
    Table(
        "ionosphere",
        "351 radar returns from the ionosphere, 33 features: good or bad.",
        # UCI's attribute 2 is always 0 and not in the file.
        "a1 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13 a14 a15 a16 a17 a18 a19 a20 a21 a22 a23 a24 "
        "a25 a26 a27 a28 a29 a30 a31 a32 a33 a34 class",
        "Features are pulse returns from -1 to 1, named by the number UCI gives them.",
        "Sigillito, Wing, Hutton & Baker (1989), Classification of radar returns; UCI.",
        _file(
            "ionosphere",
            "08038e4eadbe69f7eb4c1682062bf1a46af2525b15b81a08ee4b69fc48da4502",
            74_898,
            _MILE.format(_MILE_FIRST, "ionosphere"),
        ),
        351,
        "225 returns are good (class 1). UCI's second attribute, always 0, is not in this file. One"
        " row repeats another.",
        classes=("bad", "good"),
        published=False,
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _ALL}
"""The tables by name, without the prefix ``uci/``."""
