//! The texts of OpenGnsys' language files (etc/lang.*.conf) that its functions print, by variable name. Texts that a
//! lab exports take precedence: see [`super::Engine::text`].

/// A language with built-in texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Any other value of `LANG`.
    English,
    /// `es…`
    Spanish,
    /// `ca…`
    Catalan,
}

impl Language {
    /// The language for a value of `LANG`.
    pub fn of(lang: &str) -> Language {
        match lang.get(..2) {
            Some("es") => Language::Spanish,
            Some("ca") => Language::Catalan,
            _ => Language::English,
        }
    }
}

/// The text of `variable`; empty if there is none.
pub fn text(variable: &str, language: Language) -> &'static str {
    let row = TEXTS.iter().find(|(name, _)| *name == variable);
    row.map_or("", |(_, texts)| texts[language as usize])
}

/// Variable; English, Spanish, Catalan.
type Row = (&'static str, [&'static str; 3]);

const TEXTS: &[Row] = &[
    ("MSG_FUNCTION", ["Function", "Función", "Funció"]),
    ("MSG_FORMAT", ["Format", "Formato", "Format"]),
    ("MSG_EXAMPLE", ["Example", "Ejemplo", "Exemple"]),
    ("MSG_NOCACHE", ["No local cache", "sin caché local", "sense memòria cau local"]),
    (
        "MSG_INTERFACE_START",
        [
            "[START Interface] Run command: ",
            "[START Interface] Ejecutar comando: ",
            "[START Interface] Executar comanda: ",
        ],
    ),
    (
        "MSG_INTERFACE_END",
        [
            "[END Interface] Command finished with this code: ",
            "[END Interface] Comando terminado con este código: ",
            "[END Interface] Comanda acabada amb aquest codi: ",
        ],
    ),
    ("MSG_SCRIPTS_START", [" START scripts: ", " INICIO scripts: ", " INICI scripts: "]),
    ("MSG_SCRIPTS_TASK_SLEEP", ["Waiting to start", "Esperando para iniciar", "Esperant per iniciar"]),
    ("MSG_SCRIPTS_TASK_START", ["Starting", "Iniciando", "Iniciant"]),
    (
        "MSG_SCRIPTS_FILE_RENAME",
        ["Rename previous image-file: ", "Renombrar fichero-imagen previo: ", "Reanomenar el fitxer-imatge previ: "],
    ),
    (
        "MSG_SCRIPTS_CREATE_SIZE",
        [
            "Check required and available storing space(KB): ",
            "Calcular espacio (KB) requerido para almacenarlo y el disponible: ",
            "Calcular l'espai (KB) requerit per desar-lo i el disponible: ",
        ],
    ),
    (
        "MSG_SCRIPTS_UPDATECACHE_DOUPDATE",
        [
            "Check if it is necessary to update image file",
            "Comprobamos si hay que actualizar: existe una imagen con igual nombre pero distinto sum",
            "Comprovem si cal actualitzar: hi ha una imatge amb el mateix nom però diferent sum",
        ],
    ),
    (
        "MSG_SCRIPTS_UPDATECACHE_CHECKSIZECACHE",
        [
            "Check if Cache size is bigger than image file size.",
            "Comprobar que el tamaño de la caché es mayor que el fichero a descargar.",
            "Comprovar que la mida de la memòria cau és més gran que el fitxer a descarregar.",
        ],
    ),
    (
        "MSG_SCRIPTS_UPDATECACHE_IFNOTCACHEDO",
        [
            "Check free Cache and apply engine.cfg",
            "Comprobar el espacio libre de la caché y actuar según engine.cfg",
            "Comprovar l'espai lliure de la memòria cau i actuar segons engine.cfg",
        ],
    ),
    (
        "MSG_SCRIPTS_UPDATECACHE_CHECKMCASTSESSION",
        [
            "Checking Multicast Session  McastServer:DataPort",
            "Comprobando sesión multicast: ServidorMcast:PuertoDatos",
            "Comprovant sessió multicast: ServidorMcast:PortDades",
        ],
    ),
    (
        "MSG_SCRIPTS_OS_CONFIGURE",
        [
            "Start restored system setting",
            "Iniciar la configuración del sistema restaurado",
            "Iniciar la configuració del sistema restaurat",
        ],
    ),
    ("MSG_SCRIPTS_TIME_TOTAL", ["Total process time", "tiempo total del proceso", "temps total del procés"]),
    (
        "MSG_SCRIPTS_TIME_PARTIAL",
        ["Partial sub-process time", "tiempo parcial del subproceso", "temps parcial del subprocés"],
    ),
    ("MSG_ERR_FORMAT", ["Wrong execution format", "Formato de ejecución incorrecto", "Format d'execució incorrecte"]),
    (
        "MSG_ERR_NOTFOUND",
        ["File or device not found", "Fichero o dispositivo no encontrado", "Fitxer o dispositiu no trobat"],
    ),
    (
        "MSG_ERR_PARTITION",
        ["Unknown or wrong partition", "Partición errónea o desconocida", "Partició errònia o desconeguda"],
    ),
    (
        "MSG_ERR_LOCKED",
        [
            "Resource locked by exclusive use operation",
            "Recurso bloqueado por operación de uso exclusivo",
            "Recurs blocat per una operació d'ús exclusiu",
        ],
    ),
    (
        "MSG_ERR_IMAGE",
        [
            "Cannot create or restore a system image",
            "No se puede crear o restaurar una image de sistema",
            "No es pot crear o restaurar una imatge de sistema",
        ],
    ),
    (
        "MSG_ERR_NOTOS",
        [
            "Operating system not found or not detected",
            "Sistema operativo no instalado o no detectado",
            "Sistema operatiu no instal·lat o no detectat",
        ],
    ),
    (
        "MSG_ERR_NOTEXEC",
        ["Non executable program or function", "Programa o función no ejecutable", "Programa o funció no executable"],
    ),
    ("MSG_ERR_NOTWRITE", ["Write access denied", "No hay acceso de escritura", "No hi ha accés d'escriptura"]),
    (
        "MSG_ERR_NOTCACHE",
        [
            "No client cache partition",
            "No existe partición caché en el cliente",
            "No hi ha partició de memòria cau al client",
        ],
    ),
    (
        "MSG_ERR_CACHESIZE",
        [
            "Not enough space in local or remote cache",
            "El espacio de la caché local o remota no es suficiente",
            "L'espai de la memòria cau local o remota no és suficient",
        ],
    ),
    (
        "MSG_ERR_REDUCEFS",
        [
            "Error when reducing file system",
            "Error al reducir el sistema de archivos",
            "Error en reduir el sistema de fitxers",
        ],
    ),
    (
        "MSG_ERR_EXTENDFS",
        [
            "Error when expanding file system",
            "Error al expandir el sistema de archivos",
            "Error en expandir el sistema de fitxers",
        ],
    ),
    (
        "MSG_ERR_OUTOFLIMIT",
        ["Value out of range or not valid", "Valor fuera de rango o no válido", "Valor fora de rang o no vàlid"],
    ),
    (
        "MSG_ERR_FILESYS",
        [
            "Unknown or unmountable file system",
            "Sistema de archivos desconocido o no se puede montar",
            "Sistema de fitxers desconegut o no es pot muntar",
        ],
    ),
    (
        "MSG_ERR_CACHE",
        [
            "Error in local cache partition",
            "Error en partición de caché local",
            "Error a la partició de memòria cau local",
        ],
    ),
    (
        "MSG_ERR_NOGPT",
        [
            "The disk has no GPT partition table",
            "El disco indicado no contiene una partición GPT",
            "El disc indicat no conté una partició GPT",
        ],
    ),
    (
        "MSG_ERR_REPO",
        [
            "Failed when mounting images repository",
            "Error al montar el repositorio de imágenes",
            "Error en muntar el repositori d'imatges",
        ],
    ),
    (
        "MSG_ERR_NOMSDOS",
        [
            "The disk has no MSDOS partition table",
            "El disco indicado no contiene una partición MSDOS",
            "El disc indicat no conté una partició MSDOS",
        ],
    ),
    (
        "MSG_ERR_IMGSIZEPARTITION",
        [
            "Backup error: Partition smaller than image",
            "Error al restaurar: Partición mas pequeña que la imagen",
            "Error en restaurar: Partició més petita que la imatge",
        ],
    ),
    (
        "MSG_ERR_UPDATECACHE",
        [
            "Error when running `updateCache´ command",
            "Error al realizar el comando updateCache",
            "Error en executar la comanda updateCache",
        ],
    ),
    ("MSG_ERR_DONTFORMAT", ["Formatting error", "Error al formatear", "Error en formatar"]),
    (
        "MSG_ERR_IMAGEFILE",
        [
            "Image file corrupt or of other partclone version",
            "Fichero de imagen corrupto o de otra versión de partclone",
            "Fitxer d'imatge corrupte o d'una altra versió de partclone",
        ],
    ),
    ("MSG_ERR_GENERIC", ["Undefined unknown error", "Error imprevisto no definido", "Error imprevist no definit"]),
    (
        "MSG_ERR_UCASTSYNTAXT",
        [
            "Error when generating Unicast transfer syntax",
            "Error en la generación de sintaxis de transferencia unicast",
            "Error en la generació de la sintaxi de transferència unicast",
        ],
    ),
    (
        "MSG_ERR_UCASTSENDPARTITION",
        [
            "Error when sending Unicast partition",
            "Error en envío Unicast de una partición",
            "Error en l'enviament Unicast d'una partició",
        ],
    ),
    (
        "MSG_ERR_UCASTSENDFILE",
        [
            "Error when sending Unicast file",
            "Error en envío Unicast de un fichero",
            "Error en l'enviament Unicast d'un fitxer",
        ],
    ),
    (
        "MSG_ERR_UCASTRECEIVERPARTITION",
        [
            "Error when receiving Unicast partition",
            "Error en la recepción Unicast de una partición",
            "Error en la recepció Unicast d'una partició",
        ],
    ),
    (
        "MSG_ERR_UCASTRECEIVERFILE",
        [
            "Error when receiving Unicast file",
            "Error en la recepción Unicast de un fichero",
            "Error en la recepció Unicast d'un fitxer",
        ],
    ),
    (
        "MSG_ERR_MCASTSYNTAXT",
        [
            "Error when generating Multicast transfer syntax",
            "Error en la generación de sintaxis de transferencia multicast",
            "Error en la generació de la sintaxi de transferència multicast",
        ],
    ),
    (
        "MSG_ERR_MCASTSENDFILE",
        [
            "Error when sending Multicast file",
            "Error en envío Multicast de un fichero",
            "Error en l'enviament Multicast d'un fitxer",
        ],
    ),
    (
        "MSG_ERR_MCASTRECEIVERFILE",
        [
            "Error when receiving Multicast file",
            "Error en la recepción Multicast de un fichero",
            "Error en la recepció Multicast d'un fitxer",
        ],
    ),
    (
        "MSG_ERR_MCASTSENDPARTITION",
        [
            "Error when sending Multicast partition",
            "Error en envío Multicast de una partición",
            "Error en l'enviament Multicast d'una partició",
        ],
    ),
    (
        "MSG_ERR_MCASTRECEIVERPARTITION",
        [
            "Error when receiving Multicast partition",
            "Error en la recepción Multicast de una partición",
            "Error en la recepció Multicast d'una partició",
        ],
    ),
    (
        "MSG_ERR_PROTOCOLJOINMASTER",
        [
            "Error when connecting Unicast/Multicast session to Master",
            "Error en la conexión de una sesión Unicast/Multicast con el Master",
            "Error en la connexió d'una sessió Unicast/Multicast amb el Master",
        ],
    ),
    (
        "MSG_ERR_DONTMOUNT_IMAGE",
        ["Error when mounting image", "Error al montar la imagen", "Error en muntar la imatge"],
    ),
    ("MSG_ERR_DONTSYNC_IMAGE", ["Image cannot be synchronised", "Imagen no sincronizable", "Imatge no sincronitzable"]),
    (
        "MSG_ERR_DONTUNMOUNT_IMAGE",
        ["Error when unmounting image", "Error al desmontar la imagen", "Error en desmuntar la imatge"],
    ),
    (
        "MSG_ERR_NOTDIFFERENT",
        [
            "No differences between basic image and partition",
            "No hay diferencias entre la imagen básica y la partición",
            "No hi ha diferències entre la imatge bàsica i la partició",
        ],
    ),
    ("MSG_ERR_SYNCHRONIZING", ["Error when synchronising", "Error al sincronizar", "Error en sincronitzar"]),
    (
        "MSG_ERR_NOTUEFI",
        ["The machine did not boot by UEFI", "El equipo no ha arrancado con UEFI", "L'equip no ha arrencat amb UEFI"],
    ),
    (
        "MSG_ERR_NOTBIOS",
        ["The machine did not boot by BIOS", "El equipo no ha arrancado con BIOS", "L'equip no ha arrencat amb BIOS"],
    ),
];
