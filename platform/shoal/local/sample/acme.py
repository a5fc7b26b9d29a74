"""Acme: makes invoicing software for small businesses. Sixty people; these are the ones on the boards."""

from .company import Company, Product, employee, job
from .model import Query

EMPLOYEES = (
    employee("ana", "Ana Ribeiro", "Payments lead", "Europe/Lisbon", "09:00-17:30", (40, 68, 11), "Python 5, PostgreSQL 4, Accounting 4, Portuguese 5"),
    employee("jonas", "Jonas Lindqvist", "Backend engineer", "Europe/Stockholm", "08:00-16:30", (40, 61, 6), "Python 4, Go 4, PostgreSQL 3, Swedish 5"),
    employee("mei", "Mei Tanaka", "Backend engineer", "Asia/Tokyo", "09:30-18:30", (40, 58, 5), "Go 4, Kubernetes 3, Python 3, Japanese 5"),
    employee("omar", "Omar Haddad", "Site reliability engineer", "Europe/Berlin", "10:00-18:30", (40, 66, 8), "Kubernetes 5, Terraform 4, Incident Response 5, Go 3"),
    employee("priya", "Priya Nair", "Infrastructure lead", "Europe/London", "09:00-17:30", (40, 72, 13), "Kubernetes 4, PostgreSQL 5, Terraform 5, Incident Response 4"),
    employee("lucas", "Lucas Moreau", "Android engineer", "Europe/Paris", "09:00-18:00", (35, 57, 5), "Kotlin 5, Java 4, Accessibility 3, French 5"),
    employee("sofia", "Sofia Conti", "iOS engineer", "Europe/Rome", "09:30-18:00", (40, 59, 7), "Swift 5, TypeScript 3, Accessibility 3, Italian 5"),
    employee("hannah", "Hannah Weiss", "Mobile lead", "Europe/Vienna", "08:30-17:00", (40, 67, 10), "Kotlin 4, Swift 4, Product Management 3, German 5"),
    employee("diego", "Diego Fuentes", "Front-end engineer", "America/Mexico_City", "08:00-17:00", (40, 46, 4), "TypeScript 5, React 5, Accessibility 3, Spanish 5"),
    employee("ruth", "Ruth Adeyemi", "Front-end engineer", "Europe/London", "09:00-17:00", (32, 60, 8), "TypeScript 4, React 4, UX Design 3, Accessibility 5"),
    employee("karim", "Karim Benali", "Data engineer", "Europe/Paris", "09:00-17:30", (40, 62, 6), "Data Engineering 5, Python 4, SQL 5, French 4"),
    employee("elin", "Elin Dahl", "Data analyst", "Europe/Oslo", "08:00-16:00", (38, 55, 4), "SQL 5, Statistics 4, Product Management 2"),
    employee("viktor", "Viktor Novak", "Machine learning engineer", "Europe/Prague", "10:00-18:30", (40, 60, 7), "Machine Learning 5, Python 5, Statistics 4"),
    employee("grace", "Grace Kim", "Machine learning engineer", "America/New_York", "09:00-17:30", (40, 78, 5), "Machine Learning 4, Computer Vision 4, Python 4"),
    employee("tom", "Tom Okafor", "Security engineer", "Europe/Dublin", "09:00-17:30", (40, 70, 9), "Security 5, Python 3, Incident Response 4, Terraform 3"),
    employee("ilse", "Ilse de Vries", "Support lead", "Europe/Amsterdam", "08:30-17:00", (36, 48, 12), "Customer Support 5, Copywriting 3, Accounting 3, Dutch 5, German 4"),
    employee("marco", "Marco Bianchi", "Support specialist", "Europe/Rome", "09:00-18:00", (40, 39, 3), "Customer Support 4, Italian 5, SQL 2"),
    employee("nadia", "Nadia Petrova", "Support specialist", "Europe/Sofia", "09:00-18:00", (40, 34, 4), "Customer Support 4, Data Import 5, SQL 3"),
    employee("yuki", "Yuki Mori", "Product designer", "Europe/Berlin", "09:30-18:00", (40, 58, 6), "UX Design 5, Copywriting 3, Accessibility 4"),
    employee("chloe", "Chloé Laurent", "Content designer", "Europe/Paris", "09:00-17:00", (28, 52, 9), "Copywriting 5, UX Design 3, French 5, German 3"),
    employee("ben", "Ben Carter", "Growth lead", "America/New_York", "08:30-17:00", (40, 76, 8), "Product Management 5, Statistics 3, Copywriting 3, SQL 3"),
    employee("fatima", "Fatima Zahra", "Tax specialist", "Europe/Madrid", "09:00-17:30", (30, 63, 14), "Tax Law 5, Accounting 5, Spanish 5, French 4"),
    employee("leo", "Leo Grant", "Head of people", "Europe/London", "09:00-17:30", (40, 64, 12), "Recruiting 5, Copywriting 3, Product Management 2"),
    employee("123", "Ingrid Solberg", "Chief executive", "Europe/Oslo", "07:30-17:00", (45, 110, 20), "Product Management 5, Accounting 3, Recruiting 4"),
)

MEMBERS = {
    "payments": "ana jonas mei fatima ilse elin ben priya 123",
    "mobile": "hannah lucas sofia yuki mei grace ben 123",
    "platform": "priya omar mei jonas tom karim ana 123",
    "data": "karim elin viktor ben grace ana priya 123",
    "security": "tom priya omar jonas leo ilse",
    "support": "ilse marco nadia chloe ana hannah ben 123",
    "growth": "ben elin yuki chloe diego viktor ilse 123",
    "design": "yuki ruth diego chloe sofia lucas hannah 123",
    "ml": "viktor grace karim elin mei lucas 123",
    "hiring": "leo priya hannah yuki ilse 123",
    "leadership": "123 leo ben priya",
}

JOBS = (
    job("Idempotency keys from the invoice for all providers", "payments", "feature", 46, 3, "critical", "Python 4 x2, PostgreSQL 3"),
    job("One rounding rule per country", "payments", "feature", 38, 4, "high", "Tax Law 4, Python 4, Accounting 3"),
    job("Nightly reconciliation with provider reports", "payments", "feature", 60, 4, "high", "Python 4, PostgreSQL 4, Accounting 3"),
    job("Payout status from bank reports", "payments", "feature", 42, 3, "medium", "Go 3, PostgreSQL 3"),
    job("Instant payouts for the Netherlands", "payments", "research", 30, 3, "medium", "Accounting 4, Dutch 4"),
    job("Offline queue for drafts", "mobile", "feature", 74, 4, "high", "Kotlin 4, Swift 4, UX Design 3"),
    job("Cold start under a second on cheap phones", "mobile", "performance", 40, 4, "medium", "Kotlin 5, Swift 3"),
    job("Screen reader labels in the whole app", "mobile", "accessibility", 34, 2, "high", "Accessibility 4, Swift 3, Kotlin 3"),
    job("Tap to pay on Android", "mobile", "feature", 80, 5, "medium", "Kotlin 5, Security 3, Java 4"),
    job("Move the job workers to the new cluster", "platform", "migration", 52, 4, "high", "Kubernetes 4 x2, Terraform 4"),
    job("Partition the invoices table by month", "platform", "migration", 44, 5, "critical", "PostgreSQL 5, Incident Response 3"),
    job("Monthly failover exercise", "platform", "operations", 16, 3, "medium", "Incident Response 4 x2, Kubernetes 3"),
    job("Rewrite the PDF renderer in Rust", "platform", "research", 90, 5, "low", "Rust 4, Kubernetes 3"),
    job("Hourly load of billing events", "data", "feature", 36, 3, "high", "Data Engineering 4, SQL 4"),
    job("One definition of churn", "data", "analysis", 24, 2, "medium", "SQL 4, Statistics 3, Accounting 3"),
    job("Forecast of winter traffic", "data", "analysis", 28, 3, "medium", "Statistics 4, Python 3"),
    job("Hardware keys for finance and support", "security", "operations", 20, 2, "high", "Security 4, Customer Support 3"),
    job("Sandbox for file conversions", "security", "feature", 48, 4, "critical", "Security 4, Go 3, Kubernetes 3"),
    job("Quarterly access review", "security", "operations", 18, 2, "medium", "Security 4"),
    job("Import wizard names the wrong cell", "support", "feature", 40, 3, "medium", "Data Import 4, TypeScript 4, UX Design 3"),
    job("Help articles in German and French", "support", "writing", 32, 2, "medium", "Copywriting 4, German 4, French 4"),
    job("Call the twenty oldest customers", "support", "operations", 22, 1, "low", "Customer Support 4 x2, Italian 4"),
    job("Onboarding with an example invoice", "growth", "experiment", 44, 3, "high", "React 4, UX Design 4, Statistics 3"),
    job("Shorter pricing page", "growth", "experiment", 30, 2, "medium", "Copywriting 4, TypeScript 4, Statistics 3"),
    job("Referral link on paid invoices", "growth", "experiment", 34, 3, "medium", "React 4, Product Management 4"),
    job("New date picker for keyboard and phone", "design", "accessibility", 38, 3, "medium", "React 4, Accessibility 5, UX Design 4"),
    job("Plain words in all error messages", "design", "writing", 26, 2, "low", "Copywriting 5, UX Design 3"),
    job("Contrast and focus in the web app", "design", "accessibility", 30, 2, "high", "Accessibility 4 x2, TypeScript 4"),
    job("Receipt model for faded thermal paper", "ml", "model", 64, 4, "medium", "Computer Vision 4, Machine Learning 4, Data Engineering 3"),
    job("Suggest matches for payments without a reference", "ml", "model", 70, 5, "high", "ML 5, Python 4, Accounting 3"),
    job("Shadow mode for new models", "ml", "operations", 36, 3, "medium", "Machine Learning 4, Kubernetes 3"),
    job("Interview guide for engineers", "hiring", "writing", 18, 2, "low", "Recruiting 4, Python 4"),
)

QUERIES = (
    Query("customer was billed two times for the same invoice", "payments", "ana"),
    Query("electricians lose their notes without signal", "mobile", "lucas"),
    Query("why did everything get slow on the first of the month", "platform", "omar"),
    Query("blind users cannot send an invoice", "design", "ruth"),
    Query("which customers are about to leave us", "data", "karim"),
    Query("publish the salary bands inside the company", "leadership", "123"),
)

COMPANY = Company(
    id="acme",
    name="Acme",
    employees=EMPLOYEES,
    members=MEMBERS,
    jobs=JOBS,
    product=Product("ledger-api", "Europe/Berlin", 1450, 118, 0.006, 930, 0.28, (10.5, 14.8)),
    queries=QUERIES,
)
